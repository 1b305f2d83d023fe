"""An administrator's day through Microsoft's own libraries: azure-identity, msgraph-sdk and msgraph-beta-sdk."""

import asyncio
import datetime
import http.server
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import types
import urllib.parse

from azure.identity import CertificateCredential, ClientSecretCredential
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph import GraphServiceClient
from msgraph.generated.models.fido2_authentication_method import Fido2AuthenticationMethod
from msgraph.generated.models.fido2_authentication_method_configuration import Fido2AuthenticationMethodConfiguration
from msgraph.generated.models.group import Group
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.reference_create import ReferenceCreate
from msgraph.generated.models.subscription import Subscription
from msgraph.generated.models.user import User
from msgraph.generated.models.action_state import ActionState
from msgraph.generated.models.compliance_state import ComplianceState
from msgraph.generated.models.compliance_status import ComplianceStatus
from msgraph.generated.device_management.managed_devices.managed_devices_request_builder import ManagedDevicesRequestBuilder
from msgraph.generated.device_management.managed_devices.item.wipe.wipe_post_request_body import WipePostRequestBody
from msgraph.generated.audit_logs.sign_ins.sign_ins_request_builder import SignInsRequestBuilder
from msgraph.generated.users.users_request_builder import UsersRequestBuilder
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph_core import PageIterator
from msgraph.generated.device_management.device_compliance_policies.item.assign.assign_post_request_body import AssignPostRequestBody
from msgraph.generated.models.device_compliance_action_item import DeviceComplianceActionItem
from msgraph.generated.models.device_compliance_action_type import DeviceComplianceActionType
from msgraph.generated.models.device_compliance_policy_assignment import DeviceCompliancePolicyAssignment
from msgraph.generated.models.device_compliance_scheduled_action_for_rule import DeviceComplianceScheduledActionForRule
from msgraph.generated.models.group_assignment_target import GroupAssignmentTarget
from msgraph.generated.models.mac_o_s_compliance_policy import MacOSCompliancePolicy
from msgraph.generated.models.required_password_type import RequiredPasswordType
from msgraph.generated.models.temporary_access_pass_authentication_method import TemporaryAccessPassAuthenticationMethod
from msgraph.generated.models.temporary_access_pass_authentication_method_configuration import (
    TemporaryAccessPassAuthenticationMethodConfiguration,
)
from msgraph.generated.models.windows10_compliance_policy import Windows10CompliancePolicy
from msgraph_beta import GraphServiceClient as BetaClient
from msgraph_beta.graph_request_adapter import GraphRequestAdapter as BetaAdapter

from msgraph_beta.generated.device_management.device_configurations.item.assign.assign_post_request_body import (
    AssignPostRequestBody as AssignConfiguration,
)
from msgraph_beta.generated.models.device_configuration_assignment import DeviceConfigurationAssignment
from msgraph_beta.generated.models.group_assignment_target import GroupAssignmentTarget as BetaGroup

b = types.SimpleNamespace()
for module, name in [
    ("certificate_store", "CertificateStore"),
    ("certificate_validity_period_scale", "CertificateValidityPeriodScale"),
    ("configuration_usage", "ConfigurationUsage"),
    ("custom_subject_alternative_name", "CustomSubjectAlternativeName"),
    ("hash_algorithms", "HashAlgorithms"),
    ("key_size", "KeySize"),
    ("key_storage_provider_option", "KeyStorageProviderOption"),
    ("key_usages", "KeyUsages"),
    ("subject_alternative_name_type", "SubjectAlternativeNameType"),
    ("subject_name_format", "SubjectNameFormat"),
    ("windows81_s_c_e_p_certificate_profile", "Windows81SCEPCertificateProfile"),
    ("windows_identity_protection_configuration", "WindowsIdentityProtectionConfiguration"),
]:
    setattr(b, name, getattr(importlib.import_module(f"msgraph_beta.generated.models.{module}"), name))

BASE, TENANT, CLIENT, SECRET, CERTIFICATE = (os.environ[name] for name in ("BASE", "TENANT", "CLIENT", "SECRET", "CERTIFICATE"))
HOST = BASE.removeprefix("https://").split(":")[0]
SCOPES = [f"{BASE}/.default"]


def client(credential, hosts):
    provider = AzureIdentityAuthenticationProvider(credential, scopes=SCOPES, allowed_hosts=hosts)
    adapter = GraphRequestAdapter(provider)
    adapter.base_url = f"{BASE}/v1.0"
    return GraphServiceClient(request_adapter=adapter)


def beta(credential):
    provider = AzureIdentityAuthenticationProvider(credential, scopes=SCOPES, allowed_hosts=[HOST])
    adapter = BetaAdapter(provider)
    adapter.base_url = f"{BASE}/beta"
    return BetaClient(request_adapter=adapter)


def check(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print("ok:", what)


class Hook:
    """Where changes are told."""

    def __init__(self):
        self.notes = notes = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("validationToken")
                if not token:
                    notes.put(body)
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(token[0].encode() if token else b"")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}/hook"


async def until(look, what):
    """What `look` finds, as soon as it finds it."""
    for _ in range(600):
        found = await look()
        if found:
            return found
        await asyncio.sleep(0.1)
    sys.exit(f"not so: {what}")


class Pc:
    """A simulated PC of somebody, which calls every second."""

    def __init__(self, user, tap):
        arguments = ["simulate", "--platform", "windows", "--devices", "1", "--rounds", "1", "--stay", "1", "--user", user, "--pass", tap]
        self.program = subprocess.Popen(
            [os.environ["MUSTER"], *arguments, "--server", BASE, "--root", os.environ["SSL_CERT_FILE"]],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.program.send_signal(signal.SIGINT)
        said, _ = self.program.communicate(timeout=60)
        check(self.program.returncode == 0, f"a simulated PC had no errors: {said}")


def known(thing):
    """Whether the class knows every property that came."""
    return all("@odata." in name for name in thing.additional_data)


async def main():
    secret = ClientSecretCredential(TENANT, CLIENT, SECRET, authority=BASE, disable_instance_discovery=True)
    graph = client(secret, [HOST])

    organization = await graph.organization.get()
    check(organization.value[0].id == TENANT, "the organisation is found")

    made = await graph.users.post(User(account_enabled=True, display_name="Ana", user_principal_name="ana@day.example", department="Sales"))
    check(type(made) is User and made.user_principal_name == "ana@day.example", "a user is made and comes back as a user")
    select = UsersRequestBuilder.UsersRequestBuilderGetQueryParameters(
        select=["id", "department", "accountEnabled", "createdDateTime"], filter="userPrincipalName eq 'ana@day.example'", count=True
    )
    found = await graph.users.get(request_configuration=RequestConfiguration(query_parameters=select))
    user = found.value[0]
    check(found.odata_count == 1 and user.department == "Sales" and user.account_enabled is True, "a filter finds the user")
    check(user.created_date_time is not None and user.display_name is None, "a date is a date, and what was not selected is not there")
    await graph.users.by_user_id(made.id).patch(User(job_title="Engineer"))
    check((await graph.users.by_user_id(made.id).get()).job_title == "Engineer", "a user is changed")

    group = await graph.groups.post(Group(display_name="Day", mail_enabled=False, mail_nickname="day", security_enabled=True))
    await graph.groups.by_group_id(group.id).members.ref.post(ReferenceCreate(odata_id=f"{BASE}/v1.0/directoryObjects/{made.id}"))
    members = await graph.groups.by_group_id(group.id).members.get()
    check(type(members.value[0]) is User and members.value[0].display_name == "Ana", "a member is of the class User")
    belongs = await graph.users.by_user_id(made.id).member_of.get()
    check(type(belongs.value[0]) is Group, "and what it belongs to of the class Group")

    devices, pages = [], await graph.device_management.managed_devices.get(
        request_configuration=RequestConfiguration(
            query_parameters=ManagedDevicesRequestBuilder.ManagedDevicesRequestBuilderGetQueryParameters(top=500)
        )
    )
    iterator = PageIterator(pages, graph.request_adapter)
    await iterator.iterate(lambda device: devices.append(device) or True)
    check(len(devices) == 5000 and len({device.id for device in devices}) == 5000, "5,000 devices are paged through, each once")
    check(pages.odata_next_link.startswith(BASE), "links lead to the configured address")
    device = next(device for device in devices if device.device_name == "PC-00000")
    check(device.compliance_state is ComplianceState.Noncompliant, "a state is of its enumeration")
    check(device.operating_system == "Windows" and device.last_sync_date_time is not None, "what is known of a device is there")
    check(known(device), f"no property is unknown to the class: {device.additional_data}")

    one = graph.device_management.managed_devices.by_managed_device_id(device.id)
    await one.sync_device.post()
    await one.reboot_now.post()
    shown = await one.get()
    results = {result.action_name: result.action_state.value for result in shown.device_action_results}
    check(results == {"rebootNow": "pending"}, f"an order waits for the device: {results}")
    await one.wipe.post(WipePostRequestBody(keep_user_data=False, keep_enrollment_data=False))
    shown = await one.get()
    check(any(result.action_name == "wipe" for result in shown.device_action_results), "a wipe waits for the device")
    states = await one.device_compliance_policy_states.get()
    check(states.value is not None, "the states of policies are read")

    try:
        await graph.device_management.managed_devices.by_managed_device_id("01900000-0000-7000-8000-000000000000").get()
        sys.exit("not so: a device that is not there is an error")
    except ODataError as error:
        check(error.response_status_code == 404 and error.error.code == "ResourceNotFound", "a device that is not there is an error")
    try:
        await client(secret, ["elsewhere.example"]).users.get()
        sys.exit("not so: without trust in the host there is no token")
    except ODataError as error:
        check(error.response_status_code == 401 and "Authorization" in error.error.message, "a missing header is explained")

    passes = graph.users.by_user_id(made.id).authentication.temporary_access_pass_methods
    made_pass = await passes.post(TemporaryAccessPassAuthenticationMethod(lifetime_in_minutes=60, is_usable_once=True))
    check(made_pass.temporary_access_pass and made_pass.is_usable, "a pass is made and shown")
    check((await passes.by_temporary_access_pass_authentication_method_id(made_pass.id).get()).temporary_access_pass is None, "once")

    block = DeviceComplianceActionItem(action_type=DeviceComplianceActionType.Block, grace_period_hours=24)
    rule = DeviceComplianceScheduledActionForRule(rule_name="PasswordRequired", scheduled_action_configurations=[block])
    policies = graph.device_management.device_compliance_policies
    policy = await policies.post(
        Windows10CompliancePolicy(
            display_name="Windows", bit_locker_enabled=True, os_minimum_version="10.0.19045.0",
            password_required_type=RequiredPasswordType.DeviceDefault, scheduled_actions_for_rule=[rule],
        )
    )
    check(type(policy) is Windows10CompliancePolicy and policy.version == 1, "a policy is of its class")
    check(policy.bit_locker_enabled is True and policy.password_required_type is RequiredPasswordType.DeviceDefault, "and has its values")
    check(known(policy), f"no property of a policy is unknown to the class: {policy.additional_data}")
    await policies.by_device_compliance_policy_id(policy.id).assign.post(
        AssignPostRequestBody(assignments=[DeviceCompliancePolicyAssignment(target=GroupAssignmentTarget(group_id=group.id))])
    )
    await policies.post(MacOSCompliancePolicy(display_name="Mac", firewall_enabled=True, scheduled_actions_for_rule=[rule]))
    kinds = {type(one) for one in (await policies.get()).value}
    check(kinds == {Windows10CompliancePolicy, MacOSCompliancePolicy}, f"each policy of a list is of its class: {kinds}")
    try:
        await policies.post(Windows10CompliancePolicy(display_name="No action"))
        sys.exit("not so: a policy without an action is refused")
    except ODataError as error:
        check(error.error.code == "ModelValidationFailure", "a policy without an action is refused")

    configurations = beta(secret).device_management.device_configurations
    hello = await configurations.post(
        b.WindowsIdentityProtectionConfiguration(
            display_name="Hello", windows_hello_for_business_blocked=False, pin_minimum_length=6,
            pin_lowercase_characters_usage=b.ConfigurationUsage.Blocked,
        )
    )
    check(type(hello) is b.WindowsIdentityProtectionConfiguration and hello.pin_minimum_length == 6, "Windows Hello is configured")
    check(hello.pin_lowercase_characters_usage is b.ConfigurationUsage.Blocked and known(hello), "with what was asked for")
    scep = await configurations.post(
        b.Windows81SCEPCertificateProfile(
            display_name="User", subject_name_format=b.SubjectNameFormat.Custom, subject_name_format_string="CN={{UserPrincipalName}}",
            certificate_store=b.CertificateStore.User, certificate_validity_period_value=1,
            certificate_validity_period_scale=b.CertificateValidityPeriodScale.Years, key_size=b.KeySize.Size2048,
            key_usage=b.KeyUsages("digitalSignature"), hash_algorithm=b.HashAlgorithms.Sha2,
            key_storage_provider=b.KeyStorageProviderOption.UseTpmKspOtherwiseFail,
            custom_subject_alternative_names=[
                b.CustomSubjectAlternativeName(san_type=b.SubjectAlternativeNameType.UserPrincipalName, name="{{UserPrincipalName}}")
            ],
        )
    )
    check(type(scep) is b.Windows81SCEPCertificateProfile and scep.certificate_store is b.CertificateStore.User, "a certificate is configured")
    check(scep.key_storage_provider is b.KeyStorageProviderOption.UseTpmKspOtherwiseFail, "with the key in the TPM")
    check(b.SubjectAlternativeNameType.UserPrincipalName in scep.custom_subject_alternative_names[0].san_type, "and a name of the user")
    check(known(scep), f"no property of a certificate is unknown to the class: {scep.additional_data}")

    for one in (hello, scep):
        target = DeviceConfigurationAssignment(target=BetaGroup(odata_type="#microsoft.graph.groupAssignmentTarget", group_id=group.id))
        await configurations.by_device_configuration_id(one.id).assign.post(AssignConfiguration(assignments=[target]))
    await passes.by_temporary_access_pass_authentication_method_id(made_pass.id).delete()
    tap = await passes.post(TemporaryAccessPassAuthenticationMethod(lifetime_in_minutes=60, is_usable_once=False))
    of_ana = ManagedDevicesRequestBuilder.ManagedDevicesRequestBuilderGetQueryParameters(filter=f"userId eq '{made.id}'")
    of_ana = RequestConfiguration(query_parameters=of_ana)

    async def compliant():
        of_her = (await graph.device_management.managed_devices.get(request_configuration=of_ana)).value
        return [one for one in of_her if one.compliance_state is ComplianceState.Compliant]

    with Pc(made.user_principal_name, tap.temporary_access_pass):
        (pc,) = await until(compliant, "a PC enrols and is compliant")
        check(pc.user_principal_name == made.user_principal_name and known(pc), "a PC of hers enrolled, and is compliant")
        pc = graph.device_management.managed_devices.by_managed_device_id(pc.id)
        owned = (await graph.users.by_user_id(made.id).owned_devices.get()).value
        check([type(one).__name__ for one in owned] == ["Device"] and known(owned[0]), "it is hers in the directory")

        async def received():
            states = (await pc.device_configuration_states.get()).value
            reached = {one.display_name for one in states if one.state in (ComplianceStatus.Compliant, ComplianceStatus.Remediated)}
            return states if {"Hello", "User"} <= reached else None

        states = await until(received, "it receives what is assigned to her group")
        check(all(known(one) and all(known(part) for part in one.setting_states) for one in states), "it received Windows Hello and SCEP")
        (rules,) = [one for one in (await pc.device_compliance_policy_states.get()).value if one.display_name == "Windows"]
        check(rules.state is ComplianceStatus.Compliant and rules.setting_states, "the policy says why it is compliant")
        leaves = beta(secret).device_management.cloud_certification_authority_leaf_certificate
        held = [leaf for leaf in (await leaves.get()).value if leaf.user_principal_name == made.user_principal_name]
        check(any(leaf.subject_name == f"CN={made.user_principal_name}" for leaf in held), f"it has a certificate in her name: {held}")
        await pc.reboot_now.post()

        async def obeyed():
            return [one for one in (await pc.get()).device_action_results if one.action_state is ActionState.Done]

        (done,) = await until(obeyed, "it obeys")
        check(done.action_name == "rebootNow", "it was told to start again, and did")

    of_keys = SignInsRequestBuilder.SignInsRequestBuilderGetQueryParameters(
        filter="userPrincipalName eq 'keys@day.example' and createdDateTime ge 2026-01-01T00:00:00Z and status/errorCode eq 0", top=5
    )
    for version in (graph, beta(secret)):
        signed = (await version.audit_logs.sign_ins.get(request_configuration=RequestConfiguration(query_parameters=of_keys))).value
        check(len(signed) == 1 and signed[0].created_date_time is not None, "a sign-in is found by its user")
        check(signed[0].device_detail.browser == "Firefox 121.0" and signed[0].status.error_code == 0, "with its browser and its success")
        check(all(known(part) for part in (signed[0], signed[0].status, signed[0].device_detail)), "no property of it is unknown to the class")
        again = await version.audit_logs.sign_ins.by_sign_in_id(signed[0].id).get()
        check(again.user_display_name == "Keys", "and by its id")
    check(signed[0].authentication_details[0].authentication_method == "Passkey", "beta says how")

    await graph.users.by_user_id("keys@day.example").authentication.temporary_access_pass_methods.post(
        TemporaryAccessPassAuthenticationMethod(lifetime_in_minutes=60)
    )
    methods = (await graph.users.by_user_id("keys@day.example").authentication.methods.get()).value
    kinds = {type(one) for one in methods}
    check(kinds == {TemporaryAccessPassAuthenticationMethod, Fido2AuthenticationMethod}, f"each method is of its class: {kinds}")
    check(all(known(one) for one in methods), "no property of a method is unknown to the class")
    in_beta = (await beta(secret).users.by_user_id("keys@day.example").authentication.fido2_methods.get()).value[0]
    check(in_beta.passkey_type.value == "deviceBound" and known(in_beta), "beta says of which kind a passkey is")
    passkeys = graph.users.by_user_id("keys@day.example").authentication.fido2_methods
    key = (await passkeys.get()).value[0]
    check(key.attestation_level.value == "attested" and key.created_date_time is not None, "a passkey says that its maker vouches for it")
    await passkeys.by_fido2_authentication_method_id(key.id).delete()
    check(not (await passkeys.get()).value, "a passkey is taken away")

    policy = graph.policies.authentication_methods_policy
    ways = await policy.get()
    kinds = {type(one) for one in ways.authentication_method_configurations}
    check(
        kinds == {Fido2AuthenticationMethodConfiguration, TemporaryAccessPassAuthenticationMethodConfiguration} and known(ways),
        f"the policy of methods has two: {kinds}",
    )
    for one in ways.authentication_method_configurations:
        check(known(one) and one.state.value == "enabled" and all(known(target) for target in one.include_targets), f"{one.id} is known")
    way = policy.authentication_method_configurations.by_authentication_method_configuration_id
    check(known((await way("Fido2").get()).key_restrictions), "models are restricted as the class knows it")
    await way("temporaryAccessPass").patch(TemporaryAccessPassAuthenticationMethodConfiguration(maximum_lifetime_in_minutes=480))
    check((await way("TemporaryAccessPass").get()).maximum_lifetime_in_minutes == 480, "the policy of passes is changed")

    events = (await graph.device_management.audit_events.get()).value
    check(events and events[0].activity_date_time is not None and events[0].actor.application_id == CLIENT, "the audit log names the application")
    roles = (await graph.device_management.role_definitions.get()).value
    check(len(roles) == 5 and roles[0].is_built_in, "roles are listed")

    in_beta = await beta(secret).device_management.managed_devices.by_managed_device_id(device.id).get()
    check(in_beta.management_state is not None, "beta has more properties")

    delta, piece = graph.users.delta, await graph.users.delta.get()
    seen = list(piece.value)
    while piece.odata_next_link:
        piece = await delta.with_url(piece.odata_next_link).get()
        seen += piece.value
    check({"Ana", "Keys"} <= {one.display_name for one in seen}, "whoever follows people is given all of them first")
    hook = Hook()
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    wanted = Subscription(change_type="created", resource="users", notification_url=hook.url, expiration_date_time=end, client_state="ours")
    subscription = await graph.subscriptions.post(wanted)
    check(subscription.expiration_date_time is not None and subscription.client_state == "ours" and known(subscription), "a subscription is made")
    newcomer = await graph.users.post(User(account_enabled=True, display_name="New", user_principal_name="new@day.example"))
    note = await asyncio.to_thread(hook.notes.get, timeout=120)
    (told,) = json.loads(note)["value"]
    check(told["clientState"] == "ours" and told["subscriptionId"] == subscription.id, "its receiver is told, and knows by whom")
    check(told["resource"] == f"users/{newcomer.id}" and told["changeType"] == "created", "of whom, and what happened")
    await graph.users.by_user_id(made.id).patch(User(job_title="Director"))
    piece = await delta.with_url(piece.odata_delta_link).get()
    changed = {one.id: one for one in piece.value}
    check(newcomer.id in changed and changed[made.id].job_title == "Director", "a link of changes leads to what changed since")
    check(all(one.display_name != "Keys" for one in piece.value), "and to nothing else")
    await graph.subscriptions.by_subscription_id(subscription.id).patch(Subscription(expiration_date_time=end + datetime.timedelta(hours=1)))
    await graph.subscriptions.by_subscription_id(subscription.id).delete()
    check(not (await graph.subscriptions.get()).value, "a subscription is renewed and ended")
    await graph.users.by_user_id(newcomer.id).delete()

    by_certificate = CertificateCredential(
        TENANT, CLIENT, certificate_path=CERTIFICATE, authority=BASE, disable_instance_discovery=True
    )
    check(len((await client(by_certificate, [HOST]).groups.get()).value) >= 1, "a certificate proves the application, too")

    await graph.groups.by_group_id(group.id).delete()
    await graph.users.by_user_id(made.id).delete()
    secret.close()
    by_certificate.close()


asyncio.run(main())
