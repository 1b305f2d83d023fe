//! The command channel of a simulated device: idle, command, result, next command, until there is none.

use super::enroll::Way;
use super::profiles::Refused;
use super::{After, Device, Error, Report, answers, attestation, users};
use crate::catalogue::payload::System;
use crate::wire::Malformed;
use crate::wire::apple::attestation::oid;
use crate::wire::apple::command::{Answer, Command, Status};
use crate::wire::plist::{self, Data, Dict, Limits, Value};

/// Messages of one exchange at most.
const MOST: u32 = 200;
/// How many of the last commands are named when there is no end of them.
const LAST: usize = 8;
/// Not a command of this device.
pub(super) const UNKNOWN: i64 = 12_021;
/// The profile is not there, or not managed.
const NO_PROFILE: i64 = 12_075;
/// Something in the command cannot be used.
pub(super) const UNUSABLE: i64 = 12_026;

/// What a locked iPhone does nevertheless.
const LOCKED_PHONE: [&str; 8] = [
    "DeviceInformation",
    "ProfileList",
    "DeviceLock",
    "EraseDevice",
    "ClearPasscode",
    "ProvisioningProfileList",
    "InstalledApplicationList",
    "Restrictions",
];
/// What a Mac does while it naps.
const NAPPING_MAC: [&str; 8] = [
    "DeviceLock",
    "EraseDevice",
    "RestartDevice",
    "ShutDownDevice",
    "UserList",
    "DeleteUser",
    "UnlockUserAccount",
    "ActivationLockBypassCode",
];

/// What a user's own device does for a server; what is not here it refuses.
const USERS: [&str; 10] = [
    "DeviceInformation",
    "SecurityInfo",
    "ProfileList",
    "CertificateList",
    "InstallProfile",
    "RemoveProfile",
    "DeclarativeManagement",
    "InstallProvisioningProfile",
    "RemoveProvisioningProfile",
    "ProvisioningProfileList",
];
/// What a user's own iPhone or iPad does besides.
const USERS_PHONE: [&str; 6] =
    ["DeviceLock", "InstalledApplicationList", "ValidateApplications", "InstallMedia", "ManagedMediaList", "RemoveMedia"];

/// What a device says to a command.
pub(super) enum Reply {
    Done(Dict),
    Refused(Refused),
    Later,
    Unreadable,
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Device {
    /// Holds an exchange, from idle to the empty answer. After a connection that broke the result that is left goes first.
    ///
    /// # Errors
    /// [`Error`]; a result that could not be sent is kept for the next exchange.
    pub async fn connect(&mut self) -> Result<Report, Error> {
        if self.left {
            return Err(Error::Unenrolled);
        }
        if self.settings.off {
            return Err(Error::Off);
        }
        let mut report = Report::default();
        let mut message = match self.unsent.take() {
            Some(result) => result,
            None => self.message(Status::Idle, None, Dict::new(), None)?,
        };
        let mut is_result = false;
        let mut told = Vec::new();
        while report.messages < MOST {
            let mut answer = match self.command_channel(&message).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.unsent = is_result.then_some(message).filter(|_| !self.left);
                    return Err(error);
                }
            };
            report.messages += 1;
            if self.faults.resend {
                let again = self.command_channel(&message).await?;
                report.unequal += u32::from(again != answer);
                answer = again;
            }
            if self.follow() || answer.is_empty() {
                return Ok(report);
            }
            if self.faults.drop_after.is_some_and(|after| report.messages >= after) {
                self.disconnect();
                return Err(Error::Dropped);
            }
            message = self.answer(&answer, &mut report).await?;
            is_result = true;
            told.push(answer);
            if self.faults.drop_answers {
                self.disconnect();
                return Err(Error::Dropped);
            }
            if self.faults.mute_after.is_some_and(|after| report.messages >= after) {
                self.disconnect();
                self.unsent = Some(message);
                return Err(Error::Dropped);
            }
        }
        let last = told.iter().rev().take(LAST).filter_map(|command| Some(Command::decode(command).ok()?.request_type));
        Err(Error::Endless(last.collect::<Vec<_>>().join(", ")))
    }

    /// Does what had to wait until the answer was sent; whether that ends the exchange.
    fn follow(&mut self) -> bool {
        match std::mem::take(&mut self.after) {
            After::Nothing => return false,
            After::Erase => {
                self.forget();
                self.settings.passcode = None;
                self.settings.recovery_key = None;
            }
            After::Leave => self.forget(),
            // A phone that was just started has not been unlocked yet.
            After::Restart => self.settings.locked = self.machine.system == System::Ios && self.settings.passcode.is_some(),
            After::ShutDown => self.settings.off = true,
        }
        self.disconnect();
        true
    }

    pub(super) fn message(
        &self,
        status: Status,
        uuid: Option<String>,
        body: Dict,
        refused: Option<&Refused>,
    ) -> Result<Vec<u8>, Malformed> {
        let errors = refused.map(|refused| refused.chain(self.machine.system)).unwrap_or_default();
        Answer { who: self.who(), status, command_uuid: uuid, errors, body }.encode()
    }

    /// Carries a command out; the result's message.
    async fn answer(&mut self, command: &[u8], report: &mut Report) -> Result<Vec<u8>, Error> {
        let command = match Command::decode(command) {
            Ok(command) => command,
            Err(problem) => {
                let uuid = plist::decode_dict(command, Limits::RESULT).ok();
                let uuid = uuid.and_then(|dict| dict.string("CommandUUID").map(str::to_owned)).ok_or(problem)?;
                report.failed += 1;
                return Ok(self.message(Status::CommandFormatError, Some(uuid), Dict::new(), None)?);
            }
        };
        let reply = if self.defers(&command.request_type) {
            Reply::Later
        } else {
            self.carry_out(&command).await.map_or_else(|reply| reply, Reply::Done)
        };
        let uuid = Some(command.uuid);
        // Macs repeat the request's type.
        let about =
            |body: Dict| if self.machine.system == System::Mac { body.with("RequestType", command.request_type.as_str()) } else { body };
        Ok(match reply {
            Reply::Done(body) => {
                let message = self.message(Status::Acknowledged, uuid, about(body), None)?;
                report.commands += 1;
                *self.ran.entry(command.request_type).or_default() += 1;
                message
            }
            Reply::Later => {
                report.deferred += 1;
                self.message(Status::NotNow, uuid, about(Dict::new()), None)?
            }
            Reply::Unreadable => {
                report.failed += 1;
                self.message(Status::CommandFormatError, uuid, Dict::new(), None)?
            }
            Reply::Refused(refused) => {
                let message = self.message(Status::Error, uuid, about(Dict::new()), Some(&refused))?;
                report.failed += 1;
                tracing::debug!(request = command.request_type, %refused, "a simulated device refuses a command");
                self.refusals.push((command.request_type, refused));
                message
            }
        })
    }

    /// Whether the command has to wait until somebody unlocks or wakes the device.
    fn defers(&self, request_type: &str) -> bool {
        let goes: &[&str] = match self.machine.system {
            System::Ios => &LOCKED_PHONE,
            System::Mac => &NAPPING_MAC,
        };
        self.settings.locked && !goes.contains(&request_type) || self.faults.puts_off == Some(request_type)
    }

    async fn carry_out(&mut self, command: &Command) -> Result<Dict, Reply> {
        let mac = self.machine.system == System::Mac;
        let body = &command.body;
        let request_type = command.request_type.as_str();
        let item = |item: &Value| item.as_dict().and_then(|item| item.string("Item")).map(str::to_owned);
        let harmless = |one: &Value| item(one).is_some_and(|item| ["OrganizationInfo", "ApplicationAttributes"].contains(&item.as_str()));
        let allowed = USERS.contains(&request_type)
            || !mac && USERS_PHONE.contains(&request_type)
            || request_type == "Settings" && body.array("Settings").is_some_and(|items| items.iter().all(harmless));
        if self.is_users() && !allowed {
            return Err(Refused::command(UNKNOWN, format!("{request_type}: not in a user enrolment")).into());
        }
        let text = |key: &str| body.string(key).ok_or(Reply::Unreadable);
        // The users of a Shared iPad wait in Setup Assistant; those of Macs do not.
        let of_users = users::COMMANDS.contains(&request_type) || self.machine.shared && request_type == "UserConfigured";
        if self.user.is_some() && !of_users {
            return Err(Refused::command(UNKNOWN, format!("{request_type} is not for users")).into());
        }
        match request_type {
            "DeviceInformation" => {
                let queries = body.array("Queries").ok_or(Reply::Unreadable)?;
                let hidden = |query: &&Value| self.is_users() && query.as_str().is_some_and(|query| answers::HIDDEN.contains(&query));
                let (hidden, known): (Vec<&Value>, Vec<&Value>) = queries.iter().partition(hidden);
                // Left out of the answer, and held against the server.
                let refused = |query: &Value| {
                    let query = query.as_str().unwrap_or_default();
                    (request_type.to_owned(), Refused::command(UNUSABLE, format!("{query}: not in a user enrolment")))
                };
                self.refusals.extend(hidden.into_iter().map(refused));
                let known: Vec<Value> = known.into_iter().cloned().collect();
                let attest = queries.iter().any(|query| query.as_str() == Some("DevicePropertiesAttestation"));
                let nonce = body.data("DeviceAttestationNonce");
                if nonce.is_some_and(|nonce| nonce.len() > 32 || !attest) {
                    return Err(Refused::command(UNUSABLE, "the code is too long, or no attestation is asked for").into());
                }
                let mut said = answers::device_information(&known, &self.machine, &self.settings);
                if attest && let Some(chain) = self.attestation(nonce.unwrap_or_default())? {
                    let chain: Vec<Value> = chain.into_iter().map(|der| Value::Data(Data(der))).collect();
                    if let Some(Value::Dict(mut answers)) = said.remove("QueryResponses") {
                        answers.insert("DevicePropertiesAttestation", chain);
                        said.insert("QueryResponses", answers);
                    }
                }
                Ok(said)
            }
            "SecurityInfo" => answers::security_info(&self.machine, &self.settings, &self.profiles, self.is_users())
                .map_err(|problem| Refused::command(UNUSABLE, problem.to_string()).into()),
            "ProfileList" => Ok(Dict::new().with("ProfileList", self.profiles.list(self.machine.system))),
            "CertificateList" => Ok(Dict::new().with("CertificateList", self.profiles.certificates())),
            "InstallProfile" => {
                let document = body.data("Payload").ok_or(Reply::Unreadable)?.to_vec();
                self.install(&document, Way::Command).await?;
                Ok(Dict::new())
            }
            "RemoveProfile" => self.remove_profile(text("Identifier")?),
            "DeviceLock" => {
                if mac && body.get("PIN").is_some_and(|pin| !is_pin(pin)) {
                    return Err(Refused::command(UNUSABLE, "the PIN has to have six digits").into());
                }
                self.settings.locked |= !mac && self.settings.passcode.is_some();
                self.settings.pin = body.string("PIN").map(str::to_owned);
                Ok(if mac { Dict::new() } else { Dict::new().with("MessageResult", "Success") })
            }
            "EraseDevice" => self.erase(body),
            kind @ ("RestartDevice" | "ShutDownDevice") => {
                if !self.machine.supervised {
                    return Err(Refused::command(UNKNOWN, format!("{kind}: only on supervised devices")).into());
                }
                self.after = if kind == "RestartDevice" { After::Restart } else { After::ShutDown };
                Ok(Dict::new())
            }
            "ClearPasscode" if !mac => {
                let token = body.data("UnlockToken").ok_or(Reply::Unreadable)?;
                if !crate::secret::same(token, &self.unlock_token) {
                    return Err(Refused::command(UNUSABLE, "the unlock token is wrong").into());
                }
                self.settings.passcode = None;
                self.settings.locked = false;
                Ok(Dict::new())
            }
            "DeclarativeManagement" => {
                let tokens = body.data("Data").map(serde_json::from_slice).transpose().map_err(|_| Reply::Unreadable)?;
                self.declarations.ask(tokens);
                Ok(Dict::new())
            }
            "DeviceConfigured" => {
                self.machine.awaiting = false;
                Ok(Dict::new())
            }
            kind @ "InstallEnterpriseApplication" if mac => self.install_app(kind, body),
            kind @ "InstallApplication" if !mac || body.get("iTunesStoreID").is_some() => self.install_app(kind, body),
            "ManagedApplicationList" if !mac => Ok(self.managed_apps(body)),
            "RemoveApplication" => self.remove_app(text("Identifier")?),
            "RotateFileVaultKey" if mac => self.rotate_recovery_key(body),
            other if self.knows(other) => self.obey(other, body),
            unknown => Err(Refused::command(UNKNOWN, format!("Unknown command: {unknown} <MDMClientError:91>")).into()),
        }
    }

    /// The attestation that the device has, or a new one when the last is seven days old.
    fn attestation(&mut self, nonce: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Reply> {
        let Some(attestor) = self.attestor.clone() else { return Ok(None) };
        let now = self.now();
        if let Some((at, chain)) = &self.attested
            && now.since(*at) < attestation::CACHED
        {
            return Ok(Some(chain.clone()));
        }
        let claims = match &self.claims {
            Some(claims) => {
                let mut claims = claims.clone();
                claims.push((oid::FRESHNESS, nonce.to_vec()));
                claims
            }
            None => attestation::claims(&self.machine, &self.settings, nonce),
        };
        let chain = attestor.attest_device(&claims, now).map_err(|error| Refused::command(UNUSABLE, error.to_string()))?;
        self.attested = Some((now, chain.clone()));
        Ok(Some(chain))
    }

    fn remove_profile(&mut self, identifier: &str) -> Result<Dict, Reply> {
        let known = self.profiles.get(identifier);
        let refused = |why: &str| Refused::command(NO_PROFILE, format!("The profile \u{201c}{identifier}\u{201d} {why}."));
        match known {
            None => return Err(refused("is not installed").into()),
            Some(profile) if profile.declared => return Err(refused("belongs to a declaration").into()),
            Some(_) => {}
        }
        if identifier == self.enrollment.profile {
            self.after = After::Leave;
        } else {
            self.profiles.installed.remove(identifier);
        }
        Ok(Dict::new())
    }

    fn rotate_recovery_key(&mut self, body: &Dict) -> Result<Dict, Reply> {
        let unusable = |why: &str| Reply::from(Refused::command(UNUSABLE, why));
        if body.string("KeyType") != Some("personal") {
            return Err(unusable("only the personal key can be rotated"));
        }
        let unlock = body.dict("FileVaultUnlock").ok_or(Reply::Unreadable)?;
        let password = unlock.string("Password").ok_or_else(|| unusable("no key to unlock with"))?;
        let current = self.settings.recovery_key.as_deref().filter(|_| self.settings.filevault);
        if !current.is_some_and(|current| crate::secret::same(current.as_bytes(), password.as_bytes())) {
            return Err(unusable("the volume does not open"));
        }
        let certificate = body.data("ReplyEncryptionCertificate").ok_or(Reply::Unreadable)?;
        let key = answers::recovery_key().map_err(|problem| unusable(&problem.to_string()))?;
        let sealed = answers::encrypt(key.as_bytes(), certificate).map_err(|problem| unusable(&problem.to_string()))?;
        self.settings.recovery_key = Some(key);
        Ok(Dict::new().with("RotateResult", Dict::new().with("EncryptedNewRecoveryKey", Data(sealed))))
    }
}

pub(super) fn is_pin(value: &Value) -> bool {
    value.as_str().is_some_and(|pin| pin.len() == 6 && pin.bytes().all(|digit| digit.is_ascii_digit()))
}
