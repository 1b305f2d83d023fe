"""A day with authorities, certificates and what Apple gives, through Microsoft's own libraries for Python."""

import asyncio
import importlib
import os
import sys
import types

from azure.identity import ClientSecretCredential
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph import GraphServiceClient
from msgraph.generated.models.apple_push_notification_certificate import ApplePushNotificationCertificate
from msgraph.generated.device_management.imported_windows_autopilot_device_identities.import_.import_post_request_body import (
    ImportPostRequestBody,
)
from msgraph.generated.device_management.windows_autopilot_device_identities.item.update_device_properties import (
    update_device_properties_post_request_body,
)
from msgraph.generated.models.device_enrollment_limit_configuration import DeviceEnrollmentLimitConfiguration
from msgraph.generated.models.device_enrollment_platform_restrictions_configuration import (
    DeviceEnrollmentPlatformRestrictionsConfiguration,
)
from msgraph.generated.models.device_enrollment_windows_hello_for_business_configuration import (
    DeviceEnrollmentWindowsHelloForBusinessConfiguration,
)
from msgraph.generated.models.enrollment_state import EnrollmentState
from msgraph.generated.models.imported_windows_autopilot_device_identity import ImportedWindowsAutopilotDeviceIdentity
from msgraph.generated.models.imported_windows_autopilot_device_identity_import_status import (
    ImportedWindowsAutopilotDeviceIdentityImportStatus as ImportStatus,
)
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph_beta import GraphServiceClient as BetaClient
from msgraph_beta.generated.models.o_data_errors.o_data_error import ODataError as BetaError
from msgraph_beta.graph_request_adapter import GraphRequestAdapter as BetaAdapter

UpdateDevicePropertiesPostRequestBody = update_device_properties_post_request_body.UpdateDevicePropertiesPostRequestBody
BASE, TENANT, CLIENT, SECRET = (os.environ[name] for name in ("BASE", "TENANT", "CLIENT", "SECRET"))
HOST = BASE.removeprefix("https://").split(":")[0]

b = types.SimpleNamespace()
MODELS, ITEM = "msgraph_beta.generated.models", "msgraph_beta.generated.device_management.cloud_certification_authority.item"
for module, name in [
    (f"{MODELS}.cloud_certification_authority", "CloudCertificationAuthority"),
    (f"{MODELS}.cloud_certification_authority_certificate_key_size", "CloudCertificationAuthorityCertificateKeySize"),
    (f"{MODELS}.cloud_certification_authority_leaf_certificate_status", "CloudCertificationAuthorityLeafCertificateStatus"),
    (f"{MODELS}.dep_onboarding_setting", "DepOnboardingSetting"),
    (f"{MODELS}.dep_token_type", "DepTokenType"),
    (f"{MODELS}.cloud_certification_authority_status", "CloudCertificationAuthorityStatus"),
    (f"{MODELS}.cloud_certification_authority_type", "CloudCertificationAuthorityType"),
    (
        f"{ITEM}.change_cloud_certification_authority_status.change_cloud_certification_authority_status_post_request_body",
        "ChangeCloudCertificationAuthorityStatusPostRequestBody",
    ),
    (f"{ITEM}.revoke_leaf_certificate.revoke_leaf_certificate_post_request_body", "RevokeLeafCertificatePostRequestBody"),
    (
        "msgraph_beta.generated.device_management.cloud_certification_authority_leaf_certificate."
        "cloud_certification_authority_leaf_certificate_request_builder",
        "CloudCertificationAuthorityLeafCertificateRequestBuilder",
    ),
]:
    setattr(b, name, getattr(importlib.import_module(module), name))


def check(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print("ok:", what)


def known(thing):
    """Whether the class knows every property that came."""
    return all("@odata." in name for name in thing.additional_data)


def connect(credential, adapter, client, version):
    provider = AzureIdentityAuthenticationProvider(credential, scopes=[f"{BASE}/.default"], allowed_hosts=[HOST])
    connected = adapter(provider)
    connected.base_url = f"{BASE}/{version}"
    return client(request_adapter=connected)


async def authorities(beta):
    status, kind = b.CloudCertificationAuthorityStatus, b.CloudCertificationAuthorityType
    all_of_them = beta.device_management.cloud_certification_authority
    found = (await all_of_them.get()).value
    root = next(one for one in found if one.cloud_certification_authority_type is kind.RootCertificationAuthority)
    check(all(known(one) for one in found), f"no property of an authority is unknown to the class: {found[0].additional_data}")
    check(root.certification_authority_status is status.Active and root.validity_end_date_time is not None, "the root works")
    made = await all_of_them.post(
        b.CloudCertificationAuthority(
            display_name="Day", cloud_certification_authority_type=kind.IssuingCertificationAuthority,
            certification_authority_issuer_id=root.id, common_name="Day CA", organization_unit="IT", validity_period_in_years=3,
            certificate_key_size=b.CloudCertificationAuthorityCertificateKeySize.ECP256,
        )
    )
    check(made.certificate_key_size is b.CloudCertificationAuthorityCertificateKeySize.ECP256 and made.organization_unit == "IT", "made")
    check(made.validity_period_in_years == 3 and made.scep_server_url.startswith(BASE) and known(made), "with what was asked for")
    one = all_of_them.by_cloud_certification_authority_id(made.id)
    check((await one.patch(b.CloudCertificationAuthority(display_name="Day 2"))).display_name == "Day 2", "it gets another name")
    paused = await one.change_cloud_certification_authority_status.post(
        b.ChangeCloudCertificationAuthorityStatusPostRequestBody(
            certification_authority_status=status.Paused, certification_authority_version=made.version_number
        )
    )
    check(paused.certification_authority_status is status.Paused and paused.e_tag != made.e_tag, "it is paused, which its tag tells")
    check((await one.get_cloud_certification_authority.post()).id == made.id, "and is read")
    try:
        await one.delete()
        sys.exit("not so: an authority that worked is kept")
    except BetaError as error:
        check("CRT0054" in error.error.message, "an authority that worked is kept")
    waiting = await all_of_them.post(
        b.CloudCertificationAuthority(
            display_name="Outer", cloud_certification_authority_type=kind.IssuingCertificationAuthorityWithExternalRoot
        )
    )
    check(waiting.certification_authority_status is status.SigningPending and "REQUEST" in waiting.certificate_signing_request, "one waits")
    await all_of_them.by_cloud_certification_authority_id(waiting.id).delete()
    check(len((await all_of_them.get()).value) == len(found) + 1, "and is discarded")


async def leaves(beta):
    state = b.CloudCertificationAuthorityLeafCertificateStatus
    parameters = b.CloudCertificationAuthorityLeafCertificateRequestBuilder
    query = parameters.CloudCertificationAuthorityLeafCertificateRequestBuilderGetQueryParameters(
        filter="userPrincipalName eq 'leaf@day.example' and certificateStatus eq 'active'", count=True
    )
    everything = beta.device_management.cloud_certification_authority_leaf_certificate
    found = await everything.get(request_configuration=RequestConfiguration(query_parameters=query))
    leaf = found.value[0]
    check(found.odata_count == 1 and leaf.certificate_status is state.Active, "a certificate is found by whose it is")
    check(leaf.device_name == "PC-LEAF" and leaf.validity_end_date_time is not None and known(leaf), "with what is known of it")
    again = await everything.by_cloud_certification_authority_leaf_certificate_id(leaf.id).get()
    check(again.serial_number == leaf.serial_number, "and by its id")
    issuer = beta.device_management.cloud_certification_authority.by_cloud_certification_authority_id(leaf.issuer_id)
    revoked = await issuer.revoke_leaf_certificate.post(b.RevokeLeafCertificatePostRequestBody(leaf_certificate_id=leaf.id))
    check(revoked.certificate_status is state.Revoked and revoked.revocation_date_time is not None, "it is revoked")


async def push(graph):
    single = graph.device_management.apple_push_notification_certificate
    check((await single.get()).topic_identifier is None, "there is no push certificate")
    request = await single.download_apple_push_notification_certificate_signing_request.get()
    check("BEGIN CERTIFICATE REQUEST" in request.value, "a request for one is made")
    try:
        await single.patch(ApplePushNotificationCertificate(apple_identifier="push@day.example", certificate=request.value))
        sys.exit("not so: a request is no certificate")
    except ODataError as error:
        check("APN0002" in error.error.message, "a request is no certificate")


async def autopilot(graph):
    imports = graph.device_management.imported_windows_autopilot_device_identities
    given = [
        ImportedWindowsAutopilotDeviceIdentity(
            serial_number=serial, group_tag="Day", hardware_identifier=content, assigned_user_principal_name="leaf@day.example"
        )
        for serial, content in (("DAY-1", b"OA" + bytes(2998)), ("DAY-2", b"none"))
    ]
    answer = (await imports.import_.post(ImportPostRequestBody(imported_windows_autopilot_device_identities=given))).value
    states = [one.state.device_import_status for one in answer]
    check(states == [ImportStatus.Complete, ImportStatus.Error], f"of two PCs one is registered: {states}")
    check(all(known(one) and known(one.state) for one in answer) and answer[1].state.device_error_code == 802, "the other says why not")
    pcs = graph.device_management.windows_autopilot_device_identities
    pc = (await pcs.get()).value[0]
    check(pc.enrollment_state is EnrollmentState.NotContacted and pc.user_principal_name == "leaf@day.example", "it waits for its person")
    check(known(pc), f"no property of a PC is unknown to the class: {pc.additional_data}")
    one = pcs.by_windows_autopilot_device_identity_id(pc.id)
    await one.update_device_properties.post(UpdateDevicePropertiesPostRequestBody(group_tag="Day 2"))
    await one.unassign_user_from_device.post()
    changed = await one.get()
    check(changed.group_tag == "Day 2" and changed.user_principal_name is None, "it is changed and taken from the person")
    await one.delete()
    check(not (await pcs.get()).value, "and taken off the list")


async def enrolment(graph, beta):
    configurations = (await graph.device_management.device_enrollment_configurations.get()).value
    kinds = {type(one) for one in configurations}
    check(kinds == {
        DeviceEnrollmentLimitConfiguration, DeviceEnrollmentPlatformRestrictionsConfiguration,
        DeviceEnrollmentWindowsHelloForBusinessConfiguration,
    }, f"what may enrol is of three classes: {kinds}")
    check(all(known(one) for one in configurations), "no property of them is unknown to the class")
    servers = beta.device_management.dep_onboarding_settings
    server = await servers.post(b.DepOnboardingSetting(token_name="day"))
    check(server.token_type is b.DepTokenType.None_ and server.synced_device_count == 0 and known(server), "a server is made without token")
    key = await servers.by_dep_onboarding_setting_id(server.id).get_encryption_public_key.get()
    check("BEGIN CERTIFICATE" in key.value, "its certificate is for Apple")
    await servers.by_dep_onboarding_setting_id(server.id).delete()
    check(not (await servers.get()).value, "and it is forgotten")


async def main():
    secret = ClientSecretCredential(TENANT, CLIENT, SECRET, authority=BASE, disable_instance_discovery=True)
    beta = connect(secret, BetaAdapter, BetaClient, "beta")
    graph = connect(secret, GraphRequestAdapter, GraphServiceClient, "v1.0")
    await authorities(beta)
    await leaves(beta)
    await push(graph)
    await autopilot(graph)
    await enrolment(graph, beta)
    secret.close()


asyncio.run(main())
