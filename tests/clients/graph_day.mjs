// An administrator's day through Microsoft's own libraries: @azure/identity and @microsoft/microsoft-graph-client. At the end TypeScript
// holds everything that was answered against Microsoft's types: no property unknown to them, no value of another type.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { AuthenticationRequiredError, ClientSecretCredential } from "@azure/identity";
import {
  BatchRequestContent, BatchResponseContent, Client, GraphError, PageIterator,
} from "@microsoft/microsoft-graph-client";
import { TokenCredentialAuthenticationProvider } from "@microsoft/microsoft-graph-client/authProviders/azureTokenCredentials/index.js";
import ts from "typescript";

const { BASE, TENANT, CLIENT, SECRET } = process.env;
const HOST = new URL(BASE).hostname;
const NOBODY = "01900000-0000-7000-8000-000000000000";

function signIn(secret) {
  return new ClientSecretCredential(TENANT, CLIENT, secret, { authorityHost: BASE, disableInstanceDiscovery: true });
}

function connect(credential, hosts = [HOST]) {
  const authProvider = new TokenCredentialAuthenticationProvider(credential, { scopes: [`${BASE}/.default`] });
  return Client.initWithMiddleware({ authProvider, baseUrl: BASE, customHosts: new Set(hosts) });
}

const graph = connect(signIn(SECRET));

function ok(what) {
  console.log("ok:", what);
}

/** What was answered, each with the module and the type that it is of. */
const answers = [];

/** The same answer, after it was put aside for the types. */
function of(type, answer, module = "v1") {
  for (const one of Array.isArray(answer.value) ? answer.value : [answer]) {
    answers.push({ module, type, one });
  }
  return answer;
}

/** Every property that was sent is in the answer, as it was sent. */
function kept(answer, sent) {
  for (const [name, value] of Object.entries(sent)) {
    assert.deepEqual(answer[name], value, `${name} of ${sent["@odata.type"] ?? sent.displayName}`);
  }
}

/** The call is refused with this status and code. */
async function refused(call, statusCode, code) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof GraphError, `${error}`);
    assert.deepEqual([error.statusCode, error.code], [statusCode, code], error.message);
    assert.ok(error.message && error.requestId && !Number.isNaN(error.date.getTime()), "with the id of the request and its time");
    return true;
  });
}

/** A value as an expression of TypeScript; what names its type is held against that one. */
function expression(value, module) {
  if (Array.isArray(value)) {
    return `[${value.map((one) => expression(one, module)).join(", ")}]`;
  }
  if (value === null || typeof value !== "object") {
    return JSON.stringify(value);
  }
  const own = Object.entries(value).filter(([name]) => !name.includes("@odata."));
  const text = `{ ${own.map(([name, one]) => `${JSON.stringify(name)}: ${expression(one, module)}`).join(", ")} }`;
  const type = value["@odata.type"]?.replace("#microsoft.graph.", "");
  return type ? `(${text} satisfies ${module}.${type[0].toUpperCase()}${type.slice(1)} as any)` : text;
}

/** What TypeScript has to say about the answers. */
function complaints() {
  const lines = answers.map(({ module, type, one }, number) => {
    const named = one["@odata.type"] ? "unknown" : `${module}.${type}`;
    return `export const a${number} = ${expression(one, module)} satisfies ${named};`;
  });
  const head = ["", "-beta"].map((of, at) => `import type * as ${["v1", "beta"][at]} from "@microsoft/microsoft-graph-types${of}";`);
  const text = [...head, ...lines].join("\n");
  const file = fileURLToPath(new URL("answers.ts", import.meta.url));
  const options = {
    module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, noEmit: true, strict: true, types: [],
    skipLibCheck: true,
  };
  const host = ts.createCompilerHost(options);
  const [read, exists] = [host.getSourceFile, host.fileExists];
  host.getSourceFile = (name, ...rest) => (name === file ? ts.createSourceFile(name, text, ...rest) : read(name, ...rest));
  host.fileExists = (name) => name === file || exists(name);
  return ts.getPreEmitDiagnostics(ts.createProgram([file], options, host)).map((found) => {
    const { line, character } = found.file?.getLineAndCharacterOfPosition(found.start) ?? { line: 0, character: 0 };
    return `${ts.flattenDiagnosticMessageText(found.messageText, " ")}: ${text.split("\n")[line].slice(character, character + 200)}`;
  });
}

// People and a group.
const organization = of("Organization", await graph.api("/organization").get());
assert.equal(organization.value[0].id, TENANT);
ok("the organisation is found");

const people = {};
for (const [name, department] of [["Ana", "Sales"], ["Ben", "Sales"], ["Cem", "Research"]]) {
  const sent = {
    accountEnabled: true, displayName: name, userPrincipalName: `${name.toLowerCase()}@day.example`, department, jobTitle: "Clerk",
    givenName: name, surname: "O'Day", mail: `${name.toLowerCase()}@mail.example`, mobilePhone: "+49 1", officeLocation: "1",
    preferredLanguage: "de-DE", usageLocation: "DE", employeeId: `7${name}`,
  };
  const made = of("User", await graph.api("/users").post({ ...sent, mailNickname: "x", passwordProfile: { password: "not kept" } }));
  people[name] = made;
  const shown = of("User", await graph.api(`/users/${made.id}`).select(Object.keys(sent)).get());
  kept(shown, sent);
}
ok("people are made, and nothing of them is lost");
await graph.api(`/users/${people.Ana.id}`).update({ jobTitle: "Engineer" });
assert.equal((await graph.api(`/users/${people.Ana.userPrincipalName}`).get()).jobTitle, "Engineer");
ok("a person is changed, and found by name");
const sales = of("User", await graph.api("/users").filter("department eq 'Sales' and surname eq 'O''Day'")
  .select("id", "displayName").orderby("displayName desc").count().get());
assert.deepEqual(sales.value.map((one) => one.displayName), ["Ben", "Ana"]);
assert.equal(sales["@odata.count"], 2);
assert.deepEqual(Object.keys(sales.value[0]).filter((name) => !name.includes("@odata.")).sort(), ["displayName", "id"]);
ok("people are filtered, ordered, counted, and shown as far as was asked for");
const found = await graph.api("/users").header("ConsistencyLevel", "eventual").search('"displayName:Ce"').get();
assert.deepEqual(found.value.map((one) => one.displayName), ["Cem"]);
ok("people are searched");

const group = of("Group", await graph.api("/groups").post({
  displayName: "Day", description: "People of the day", mailEnabled: false, mailNickname: "day", securityEnabled: true,
}));
kept(group, { displayName: "Day", description: "People of the day", mailEnabled: false, securityEnabled: true });
for (const one of Object.values(people)) {
  await graph.api(`/groups/${group.id}/members/$ref`).post({ "@odata.id": `${BASE}/v1.0/directoryObjects/${one.id}` });
}
await graph.api(`/groups/${group.id}/members/${people.Cem.id}/$ref`).delete();
const members = of("DirectoryObject", await graph.api(`/groups/${group.id}/members`).get());
assert.deepEqual(members.value.map((one) => one.displayName).sort(), ["Ana", "Ben"]);
assert.equal(members.value[0]["@odata.type"], "#microsoft.graph.user");
const belongs = of("DirectoryObject", await graph.api(`/users/${people.Ana.id}/memberOf`).get());
assert.deepEqual(belongs.value.map((one) => one.id), [group.id]);
ok("a group has the members that it was given");

const passes = `/users/${people.Ana.id}/authentication/temporaryAccessPassMethods`;
const pass = of("TemporaryAccessPassAuthenticationMethod", await graph.api(passes).post({ lifetimeInMinutes: 60, isUsableOnce: true }));
assert.ok(pass.temporaryAccessPass);
kept(pass, { isUsable: true, isUsableOnce: true, lifetimeInMinutes: 60 });
const again = of("TemporaryAccessPassAuthenticationMethod", await graph.api(`${passes}/${pass.id}`).get());
assert.equal(again.temporaryAccessPass, null);
ok("a pass is shown once");

/** Certificates whose key the server makes, and those that were brought. */
function certificates(system) {
  const mac = system === "macOS" ? { deploymentChannel: "deviceChannel" } : {};
  return [
    {
      "@odata.type": `#microsoft.graph.${system}PkcsCertificateProfile`, displayName: `${system} PKCS`, renewalThresholdPercentage: 25,
      subjectNameFormat: "commonNameAsEmail", subjectNameFormatString: "CN={{EmailAddress}}", subjectAlternativeNameType: "none",
      customSubjectAlternativeNames: [{ sanType: "emailAddress", name: "{{EmailAddress}}" }], certificateStore: "user",
      certificateValidityPeriodValue: 6, certificateValidityPeriodScale: "months", certificationAuthority: HOST,
      certificationAuthorityName: "issuing", certificateTemplateName: "", ...mac, ...(system === "macOS" ? { allowAllAppsAccess: true } : {}),
    },
    {
      "@odata.type": `#microsoft.graph.${system}ImportedPFXCertificateProfile`, displayName: `${system} mail`,
      intendedPurpose: "smimeEncryption", ...mac,
    },
  ];
}

/** Extensions that sign people in. */
function extensions(system) {
  const named = (kind, extension) => ({
    "@odata.type": `#microsoft.graph.${system}DeviceFeaturesConfiguration`, displayName: `${system} ${kind}`,
    [`${system}SingleSignOnExtension`]: { "@odata.type": `#microsoft.graph.${system}${kind}SingleSignOnExtension`, ...extension },
  });
  const bundle = { extensionIdentifier: "org.example.sso", teamIdentifier: "ABCDE12345" };
  const configurations = [
    { "@odata.type": "#microsoft.graph.keyIntegerValuePair", key: "attempts", value: 3 },
    { "@odata.type": "#microsoft.graph.keyBooleanValuePair", key: "quiet", value: true },
    { "@odata.type": "#microsoft.graph.keyRealValuePair", key: "share", value: 0.5 },
  ];
  const kerberos = {
    realm: "EXAMPLE.ORG", domains: [".example.org"], activeDirectorySiteCode: "site", blockActiveDirectorySiteAutoDiscovery: true,
    blockAutomaticLogin: true, cacheName: "cache", credentialBundleIdAccessControlList: ["org.example.app"], isDefaultRealm: true,
    managedAppsInBundleIdACLIncluded: true, passwordBlockModification: false, passwordChangeUrl: "https://example.org/password",
    passwordExpirationDays: 90, passwordExpirationNotificationDays: 14, passwordMinimumAgeDays: 1, passwordMinimumLength: 12,
    passwordPreviousPasswordBlockCount: 5, passwordRequireActiveDirectoryComplexity: true, passwordRequirementsDescription: "long",
    requireUserPresence: true, signInHelpText: "Ask us", userPrincipalName: "ana",
  };
  const macs = {
    credentialsCacheMonitored: true, kerberosAppsInBundleIdACLIncluded: true, modeCredentialUsed: "always", passwordEnableLocalSync: true,
    preferredKDCs: ["kdc.example.org"], tlsForLDAPRequired: true, userSetupDelayed: false, usernameLabelCustom: "Name",
  };
  return [
    named("Redirect", { ...bundle, urlPrefixes: ["https://idp.example.org/"], configurations }),
    named("Credential", { ...bundle, realm: "EXAMPLE.ORG", domains: ["example.org"], configurations }),
    named("Kerberos", { ...kerberos, ...(system === "macOS" ? macs : {}) }),
  ];
}

// Configurations and a policy, and who gets them.
const target = { "@odata.type": "#microsoft.graph.groupAssignmentTarget", groupId: group.id };
const CONFIGURATIONS = "/deviceManagement/deviceConfigurations";
const configurations = [
  {
    "@odata.type": "#microsoft.graph.windowsIdentityProtectionConfiguration", displayName: "Hello", windowsHelloForBusinessBlocked: false,
    pinMinimumLength: 6, pinMaximumLength: 127, pinLowercaseCharactersUsage: "blocked", pinUppercaseCharactersUsage: "notConfigured",
    pinRecoveryEnabled: true, securityDeviceRequired: true, unlockWithBiometricsEnabled: true, useSecurityKeyForSignin: true,
    enhancedAntiSpoofingForFacialFeaturesEnabled: true,
  },
  {
    "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", displayName: "Sign-in", renewalThresholdPercentage: 25,
    keyStorageProvider: "useTpmKspOtherwiseFail", subjectNameFormat: "custom", subjectNameFormatString: "CN={{UserPrincipalName}}",
    customSubjectAlternativeNames: [{ sanType: "userPrincipalName", name: "{{UserPrincipalName}}" }], certificateStore: "user",
    certificateValidityPeriodValue: 1, certificateValidityPeriodScale: "years", keySize: "size2048", hashAlgorithm: "sha2",
    keyUsage: "digitalSignature", extendedKeyUsages: [{ name: "Client Authentication", objectIdentifier: "1.3.6.1.5.5.7.3.2" }],
  },
  ...["macOS", "ios"].flatMap((system) => certificates(system)),
  ...["macOS", "ios"].flatMap((system) => extensions(system)),
];
const made = [];
for (const sent of configurations) {
  const { id } = of("DeviceConfiguration", await graph.api(CONFIGURATIONS).version("beta").post(sent), "beta");
  const path = `${CONFIGURATIONS}/${id}`;
  await graph.api(`${path}/assign`).version("beta").post({ assignments: [{ target }] });
  const shown = of("DeviceConfiguration", await graph.api(path).version("beta").expand("assignments").get(), "beta");
  kept(shown, sent);
  assert.equal(shown.assignments[0].target.groupId, group.id);
  await graph.api(path).version("beta").update({ "@odata.type": sent["@odata.type"], description: "changed" });
  kept(of("DeviceConfiguration", await graph.api(path).version("beta").get(), "beta"), { ...sent, description: "changed" });
  made.push(path);
}

// The settings catalogue.
const instance = (kind, settingDefinitionId, rest) => ({
  "@odata.type": `#microsoft.graph.deviceManagementConfiguration${kind}Instance`, settingDefinitionId, ...rest,
});
const choice = (id, end) => instance("ChoiceSetting", id, { choiceSettingValue: { value: `${id}_${end}`, children: [] } });
const value = (kind, one) => ({ "@odata.type": `#microsoft.graph.deviceManagementConfiguration${kind}SettingValue`, value: one });
const simple = (id, kind, one) => instance("SimpleSetting", id, { simpleSettingValue: value(kind, one) });
const holding = (id, children) => instance("GroupSettingCollection", id, { groupSettingCollectionValue: [{ children }] });
const sso = (at) => `com.apple.extensiblesso_${at}`;
const tenant = "device_vendor_msft_passportforwork_{tenantid}";
const policies = {
  macOS: [holding(sso("com.apple.extensiblesso"), [
    simple(sso("extensionidentifier"), "String", "org.example.sso"),
    holding(sso("platformsso"), [
      choice(sso("platformsso_authenticationmethod"), 1), simple(sso("platformsso_loginfrequency"), "Integer", 7200),
      choice(sso("platformsso_useshareddevicekeys"), true),
    ]),
    simple(sso("teamidentifier"), "String", "ABCDE12345"), choice(sso("type"), 1),
    instance("SimpleSettingCollection", sso("urls"), { simpleSettingCollectionValue: [value("String", "https://idp.example.org/")] }),
  ])],
  windows10: [holding(tenant, [
    simple(`${tenant}_policies_pincomplexity_minimumpinlength`, "Integer", 6), choice(`${tenant}_policies_usepassportforwork`, true),
  ])],
};
const CATALOGUE = "/deviceManagement/configurationPolicies";
for (const [platforms, instances] of Object.entries(policies)) {
  const sent = { name: `Catalogue for ${platforms}`, description: "d", platforms, technologies: "mdm" };
  const settings = instances.map((settingInstance) => ({ settingInstance }));
  const { id } = of("DeviceManagementConfigurationPolicy", await graph.api(CATALOGUE).version("beta").post({ ...sent, settings }), "beta");
  const path = `${CATALOGUE}/${id}`;
  const kind = "DeviceManagementConfigurationPolicyAssignment";
  of(kind, await graph.api(`${path}/assign`).version("beta").post({ assignments: [{ target }] }), "beta");
  await graph.api(path).version("beta").put({ ...sent, description: "changed", settings });
  const shown = of("DeviceManagementConfigurationPolicy", await graph.api(path).version("beta").expand("settings,assignments").get(), "beta");
  kept(shown, { ...sent, description: "changed", isAssigned: true, settingCount: 1 });
  assert.deepEqual(shown.settings.map((one) => one.settingInstance), instances);
  const separate = of("DeviceManagementConfigurationSetting", await graph.api(`${path}/settings`).version("beta").get(), "beta");
  assert.deepEqual(separate.value, shown.settings);
  made.push(path);
}
const definitions = of("DeviceManagementConfigurationSettingDefinition",
  await graph.api("/deviceManagement/configurationSettings").version("beta").get(), "beta");
assert.ok(definitions.value.length > 50);
of("DeviceManagementConfigurationCategory", await graph.api("/deviceManagement/configurationCategories").version("beta").get(), "beta");
ok("policies of the settings catalogue keep what they were given");
ok("Windows Hello and certificates are configured, assigned and changed, and keep what they were given");

const POLICIES = "/deviceManagement/deviceCompliancePolicies";
const block = { actionType: "block", gracePeriodHours: 24, notificationTemplateId: "", notificationMessageCCList: [] };
const rules = { bitLockerEnabled: true, secureBootEnabled: true, osMinimumVersion: "10.0.19045.0", passwordRequiredType: "deviceDefault" };
const sent = { "@odata.type": "#microsoft.graph.windows10CompliancePolicy", displayName: "Windows", description: "All", ...rules };
const policy = of("DeviceCompliancePolicy", await graph.api(POLICIES).post({
  ...sent, scheduledActionsForRule: [{ ruleName: "PasswordRequired", scheduledActionConfigurations: [block] }],
}));
kept(policy, { ...sent, version: 1 });
const policyPath = `${POLICIES}/${policy.id}`;
const assigned = await graph.api(`${policyPath}/assign`).post({ assignments: [{ target }] });
of("DeviceCompliancePolicyAssignment", assigned);
assert.equal(assigned.value[0].target.groupId, group.id);
const whole = of("DeviceCompliancePolicy", await graph.api(policyPath)
  .expand("assignments,scheduledActionsForRule($expand=scheduledActionConfigurations)").get());
assert.equal(whole.assignments[0].target.groupId, group.id);
const [scheduled] = whole.scheduledActionsForRule[0].scheduledActionConfigurations;
assert.deepEqual([scheduled.actionType, scheduled.gracePeriodHours], ["block", 24]);
await graph.api(policyPath).patch({ "@odata.type": sent["@odata.type"], osMinimumVersion: "10.0.22631.0" });
kept(of("DeviceCompliancePolicy", await graph.api(policyPath).get()), { ...sent, osMinimumVersion: "10.0.22631.0", version: 2 });
ok("a policy is made, assigned and changed, and loses nothing");

// Devices.
const DEVICES = "/deviceManagement/managedDevices";
const first = of("ManagedDevice", await graph.api(DEVICES).top(500).get());
assert.equal(first.value.length, 500);
assert.ok(first["@odata.nextLink"].startsWith(`${BASE}/v1.0/`));
const devices = [];
const iterator = new PageIterator(graph, first, (one) => devices.push(one) !== 1200);
await iterator.iterate();
assert.deepEqual([devices.length, iterator.isComplete()], [1200, false]);
await iterator.resume();
assert.deepEqual([devices.length, new Set(devices.map((one) => one.id)).size, iterator.isComplete()], [5000, 5000, true]);
ok("5,000 devices are paged through, each once, with a rest in between");
const few = of("ManagedDevice", await graph.api(DEVICES).filter("startswith(deviceName,'PC-0000') and operatingSystem eq 'Windows'")
  .orderby("deviceName desc").select(["id", "deviceName", "complianceState", "lastSyncDateTime"]).top(4).count(true).get());
assert.deepEqual(few.value.map((one) => one.deviceName), ["PC-00009", "PC-00008", "PC-00007", "PC-00006"]);
assert.equal(few["@odata.count"], 10);
const names = [];
await new PageIterator(graph, few, (one) => names.push(one.deviceName)).iterate();
assert.deepEqual(names, [...Array(10).keys()].reverse().map((number) => `PC-0000${number}`));
ok("devices are filtered, ordered and paged at once");
assert.equal(await graph.api(`${DEVICES}/$count`).filter("complianceState eq 'noncompliant'").get(), "1");
ok("devices are counted");

const device = devices.find((one) => one.deviceName === "PC-00000");
assert.deepEqual([device.complianceState, device.operatingSystem, device.osVersion], ["noncompliant", "Windows", "10.0.22631.1"]);
const path = `${DEVICES}/${device.id}`;
assert.equal(await graph.api(`${path}/syncDevice`).post(), undefined);
await graph.api(`${path}/rebootNow`).post();
await graph.api(`${path}/windowsDefenderScan`).post({ quickScan: true });
const shown = of("ManagedDevice", await graph.api(path).get());
const { deviceActionResults, ...others } = shown;
assert.deepEqual(deviceActionResults.map((one) => one.actionState), ["pending", "pending"]);
assert.ok(deviceActionResults.some((one) => one.actionName === "rebootNow"));
kept(others, Object.fromEntries(Object.entries(device).filter(([name]) => name !== "deviceActionResults" && !name.includes("@odata."))));
of("DeviceCompliancePolicyState", await graph.api(`${path}/deviceCompliancePolicyStates`).get());
of("DeviceConfigurationState", await graph.api(`${path}/deviceConfigurationStates`).get());
of("ManagedDevice", await graph.api(path).version("beta").get(), "beta");
ok("orders wait for the device");

// Several calls in one.
const call = (id, path, options = {}, dependsOn = undefined) => ({ id, request: new Request(`${BASE}${path}`, options), dependsOn });
const headers = { "content-type": "application/json" };
const text = JSON.stringify;
const named = { displayName: "Batch", mailEnabled: false, mailNickname: "batch", securityEnabled: true };
// The client wants that all of them wait for the same one, or none does.
const batch = new BatchRequestContent([
  call("changed", `/users/${people.Ben.id}`, { method: "PATCH", headers, body: text({ department: "Research" }) }),
  call("made", "/groups", { method: "POST", headers, body: text(named) }, ["changed"]),
  call("filtered", "/users?$filter=startswith(displayName,'Be')&$select=id,department", {}, ["changed"]),
  call("rebooted", `${DEVICES}/${devices[1].id}/rebootNow`, { method: "POST" }, ["changed"]),
  call("missing", `/users/${NOBODY}`, {}, ["changed"]),
]);
const responses = new BatchResponseContent(await graph.api("/$batch").post(await batch.getContent()));
const statuses = Object.fromEntries([...responses.getResponses()].map(([id, response]) => [id, response.status]));
assert.deepEqual(statuses, { made: 201, changed: 204, filtered: 200, rebooted: 204, missing: 404 });
const batched = of("Group", await responses.getResponseById("made").json());
assert.equal(batched.displayName, "Batch");
const filtered = of("User", await responses.getResponseById("filtered").json());
assert.deepEqual(filtered.value.map((one) => [one.id, one.department]), [[people.Ben.id, "Research"]]);
assert.equal((await responses.getResponseById("missing").json()).error.code, "ResourceNotFound");
const failing = new BatchRequestContent([call("1", `/users/${NOBODY}`), call("2", `/groups/${batched.id}`, { method: "DELETE" }, ["1"])]);
const failed = new BatchResponseContent(await graph.api("/$batch").post(await failing.getContent()));
assert.deepEqual([failed.getResponseById("1").status, failed.getResponseById("2").status], [404, 424]);
ok("calls of a batch are answered each by itself, and wait for each other");

// Who did what.
const events = of("AuditEvent", await graph.api("/deviceManagement/auditEvents").top(5).get());
assert.equal(events.value.length, 5);
assert.ok(events.value.every((one) => one.actor.applicationId === CLIENT && !Number.isNaN(Date.parse(one.activityDateTime))));
const audits = of("DirectoryAudit", await graph.api("/auditLogs/directoryAudits").filter("activityDisplayName eq 'user.create'").get());
assert.deepEqual(new Set(audits.value.map((one) => one.targetResources[0].id)), new Set(Object.values(people).map((one) => one.id)));
assert.ok(audits.value.every((one) => one.initiatedBy.app.appId === CLIENT));
const roles = of("DeviceAndAppManagementRoleDefinition", await graph.api("/deviceManagement/roleDefinitions").get());
assert.equal(roles.value.length, 5);
of("DeviceAndAppManagementRoleDefinition", await graph.api("/deviceManagement/roleDefinitions").version("beta").get(), "beta");
ok("the audit log names the application and whom it made");

// What changes.
const begun = await graph.api("/groups/delta").get();
const followed = [];
const follower = new PageIterator(graph, begun, (one) => followed.push(one) > 0);
await follower.iterate();
assert.ok(followed.some((one) => one.id === group.id && one.displayName));
assert.ok(followed.some((one) => one.id === group.id && one["members@delta"]?.length > 0));
const later = follower.getDeltaLink();
assert.ok(later.startsWith(`${BASE}/v1.0/groups/delta`));
await graph.api(`/groups/${batched.id}`).patch({ description: "Changed" });
const news = await graph.api(later).get();
assert.deepEqual(news.value.map((one) => [one.id, one.description]), [[batched.id, "Changed"]]);
const entity = await graph.api(`/groups/${batched.id}`).get();
await refused(graph.api(`/groups/${batched.id}`).header("If-Match", 'W/"other"').patch({ description: "Lost" }), 412, "PreconditionFailed");
await graph.api(`/groups/${batched.id}`).header("If-Match", entity["@odata.etag"]).patch({ description: "Kept" });
ok("changes are followed, and nobody changes what somebody else changed");

// What is refused.
await refused(graph.api(`${DEVICES}/${NOBODY}`).get(), 404, "ResourceNotFound");
await refused(graph.api("/users").post({ displayName: "No name" }), 400, "Request_BadRequest");
await refused(graph.api("/users").filter("shoeSize eq 42").get(), 400, "BadRequest");
await refused(graph.api(POLICIES).post({ "@odata.type": sent["@odata.type"], displayName: "No action" }), 400, "ModelValidationFailure");
await refused(connect(signIn(SECRET), ["elsewhere.example"]).api("/users").get(), 401, "InvalidAuthenticationToken");
ok("what is refused is a GraphError with status and code");
await assert.rejects(signIn("wrong").getToken(`${BASE}/.default`), (error) => {
  assert.ok(error instanceof AuthenticationRequiredError, `${error.name}: ${error}`);
  assert.match(error.message, /AADSTS7000215/);
  return true;
});
ok("a wrong secret is told by its number");

// Authorities, certificates and what Apple gives.
const CA = "/deviceManagement/cloudCertificationAuthority";
const authorities = of("CloudCertificationAuthority", await graph.api(CA).version("beta").get(), "beta").value;
const leaves = of("CloudCertificationAuthorityLeafCertificate", await graph.api(`${CA}LeafCertificate`).version("beta").get(), "beta").value;
assert.deepEqual(authorities.map((one) => one.displayName), ["root", "issuing"]);
assert.equal(leaves[0].issuerId, authorities[1].id);
of("ApplePushNotificationCertificate", await graph.api("/deviceManagement/applePushNotificationCertificate").get());
const pc = { serialNumber: "DAY-1", groupTag: "Day", hardwareIdentifier: Buffer.alloc(3000, "OA").toString("base64") };
const PCS = "/deviceManagement/windowsAutopilotDeviceIdentities";
const IMPORTS = "/deviceManagement/importedWindowsAutopilotDeviceIdentities";
of("ImportedWindowsAutopilotDeviceIdentity", await graph.api(`${IMPORTS}/import`).post({ importedWindowsAutopilotDeviceIdentities: [pc] }));
const registered = of("WindowsAutopilotDeviceIdentity", await graph.api(PCS).get()).value;
assert.equal(registered[0].serialNumber, "DAY-1");
await graph.api(`${PCS}/${registered[0].id}`).delete();
of("DeviceEnrollmentConfiguration", await graph.api("/deviceManagement/deviceEnrollmentConfigurations").get());
const SERVERS = "/deviceManagement/depOnboardingSettings";
const server = of("DepOnboardingSetting", await graph.api(SERVERS).version("beta").post({ tokenName: "day" }), "beta");
await graph.api(`${SERVERS}/${server.id}`).version("beta").delete();
ok("authorities, certificates, the push certificate and what enrols are read");

// What was made goes.
for (const path of made) {
  await graph.api(path).version("beta").delete();
}
const persons = Object.values(people).map((one) => `/users/${one.id}`);
const rest = [policyPath, `/groups/${batched.id}`, `/groups/${group.id}`, `${passes}/${pass.id}`, ...persons];
for (const path of rest) {
  assert.equal(await graph.api(path).delete(), undefined);
}
for (const path of ["/users", "/groups", POLICIES, CONFIGURATIONS]) {
  assert.deepEqual((await graph.api(path).get()).value, [], path);
}
ok("what was made is gone");

const unlike = complaints();
assert.deepEqual(unlike, []);
ok(`${answers.length} answers are of Microsoft's types`);
