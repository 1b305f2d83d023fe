"""Every kind of configuration, and an identity of a person, through msgraph-beta-sdk: made, read back, and held property by property
against what was sent."""

import asyncio
import base64
import importlib
import os
import re
import sys

from azure.identity import ClientSecretCredential
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph_beta import GraphServiceClient
from msgraph_beta.generated.device_management.user_pfx_certificates.user_pfx_certificates_request_builder import (
    UserPfxCertificatesRequestBuilder,
)
from msgraph_beta.generated.models.o_data_errors.o_data_error import ODataError
from msgraph_beta.graph_request_adapter import GraphRequestAdapter

BASE, TENANT, CLIENT, SECRET = (os.environ[name] for name in ("BASE", "TENANT", "CLIENT", "SECRET"))
HOST = BASE.removeprefix("https://").split(":")[0]


def snake(name):
    """The name of a module or property as the SDK spells it."""
    spelt = re.sub(r"(?<!^)(?<!_)([A-Z])", r"_\1", name[0].lower() + name[1:])
    return spelt.lower()


def model(name):
    module = snake(name)
    return getattr(importlib.import_module(f"msgraph_beta.generated.models.{module}"), name)


class Of:
    """A typed object with what it is to say."""

    def __init__(self, name, /, **properties):
        self.kind, self.properties = model(name), properties

    def build(self):
        return self.kind(**{name: built(value) for name, value in self.properties.items()})


def built(value):
    if isinstance(value, Of):
        return value.build()
    return [built(one) for one in value] if isinstance(value, list) else value


def check(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")
    print("ok:", what)


def compare(sent, shown, place):
    """Holds what came back against what was sent."""
    if isinstance(sent, Of):
        if type(shown) is not sent.kind:
            sys.exit(f"not so: {place} is {type(shown).__name__}, not {sent.kind.__name__}")
        unknown = [name for name in shown.additional_data if "@odata." not in name]
        if unknown:
            sys.exit(f"not so: {place} has what its class does not know: {unknown}")
        for name, value in sent.properties.items():
            compare(value, getattr(shown, name), f"{place}.{name}")
    elif isinstance(sent, list):
        if shown is None or len(sent) != len(shown):
            sys.exit(f"not so: {place} is {shown!r}, not {sent!r}")
        for number, (one, other) in enumerate(zip(sent, shown)):
            compare(one, other, f"{place}[{number}]")
    elif sent != shown and [sent] != shown:
        sys.exit(f"not so: {place} is {shown!r}, not {sent!r}")


def word(enumeration, name):
    return getattr(model(enumeration), name)


def certificate(system):
    """What profiles of certificates have in common."""
    san = Of(
        "CustomSubjectAlternativeName", san_type=word("SubjectAlternativeNameType", "EmailAddress"), name="{{EmailAddress}}"
    )
    common = dict(
        renewal_threshold_percentage=25, subject_name_format=word("AppleSubjectNameFormat", "CommonNameAsEmail"),
        certificate_validity_period_value=6, certificate_validity_period_scale=word("CertificateValidityPeriodScale", "Months"),
        certificate_store=word("CertificateStore", "User"), custom_subject_alternative_names=[san], certification_authority=HOST,
        certification_authority_name="issuing",
    )
    if system == "MacOS":
        common |= dict(allow_all_apps_access=True, deployment_channel=word("AppleDeploymentChannel", "DeviceChannel"))
    return common


def pairs():
    return [Of("KeyIntegerValuePair", key="attempts", value=3), Of("KeyBooleanValuePair", key="quiet", value=True)]


def extensions(system):
    """Extensions of a system, each of its type."""
    bundle = dict(extension_identifier="org.example.sso", team_identifier="ABCDE12345")
    kerberos = dict(
        realm="EXAMPLE.ORG", domains=[".example.org"], block_automatic_login=True, cache_name="cache", is_default_realm=True,
        credential_bundle_id_access_control_list=["org.example.app"], password_minimum_length=12, password_block_modification=False,
        require_user_presence=True, sign_in_help_text="Ask us", user_principal_name="ana", managed_apps_in_bundle_id_a_c_l_included=True,
    )
    if system == "MacOS":
        kerberos |= dict(
            preferred_k_d_cs=["kdc.example.org"], tls_for_l_d_a_p_required=True, password_enable_local_sync=True,
            mode_credential_used="always", username_label_custom="Name", user_setup_delayed=False, credentials_cache_monitored=True,
        )
    prefixes = ["https://idp.example.org/"]
    yield "Redirect", Of(f"{system}RedirectSingleSignOnExtension", **bundle, url_prefixes=prefixes, configurations=pairs())
    yield "Credential", Of(
        f"{system}CredentialSingleSignOnExtension", **bundle, realm="EXAMPLE.ORG", domains=["example.org"], configurations=pairs()
    )
    yield "Kerberos", Of(f"{system}KerberosSingleSignOnExtension", **kerberos)


def configurations():
    for system in ("MacOS", "Ios"):
        yield Of(f"{system}PkcsCertificateProfile", display_name=f"{system} PKCS", **certificate(system))
        yield Of(
            f"{system}ImportedPFXCertificateProfile", display_name=f"{system} mail",
            intended_purpose=word("IntendedPurpose", "SmimeEncryption"),
        )
        holder = "mac_o_s_single_sign_on_extension" if system == "MacOS" else "ios_single_sign_on_extension"
        for kind, extension in extensions(system):
            yield Of(f"{system}DeviceFeaturesConfiguration", display_name=f"{system} {kind}", **{holder: extension})


def setting(kind, name, **value):
    return Of(f"DeviceManagementConfiguration{kind}Instance", setting_definition_id=name, **value)


def choice(name, end):
    value = Of("DeviceManagementConfigurationChoiceSettingValue", value=f"{name}_{end}", children=[])
    return setting("ChoiceSetting", name, choice_setting_value=value)


def simple(name, kind, value):
    return setting("SimpleSetting", name, simple_setting_value=Of(f"DeviceManagementConfiguration{kind}SettingValue", value=value))


def group(name, *children):
    value = Of("DeviceManagementConfigurationGroupSettingValue", children=list(children))
    return setting("GroupSettingCollection", name, group_setting_collection_value=[value])


def policies():
    """Platform SSO and Windows Hello by the settings catalogue."""
    sso = "com.apple.extensiblesso_"
    urls = [Of("DeviceManagementConfigurationStringSettingValue", value="https://idp.example.org/")]
    yield "MacOS", group(
        f"{sso}com.apple.extensiblesso",
        simple(f"{sso}extensionidentifier", "String", "org.example.sso"),
        group(
            f"{sso}platformsso",
            choice(f"{sso}platformsso_authenticationmethod", 1),
            simple(f"{sso}platformsso_loginfrequency", "Integer", 7200),
            group(
                f"{sso}platformsso_tokentousermapping",
                simple(f"{sso}platformsso_tokentousermapping_accountname", "String", "preferred_username"),
            ),
            choice(f"{sso}platformsso_useshareddevicekeys", "true"),
        ),
        simple(f"{sso}teamidentifier", "String", "ABCDE12345"),
        choice(f"{sso}type", 1),
        setting("SimpleSettingCollection", f"{sso}urls", simple_setting_collection_value=urls),
    )
    tenant = "device_vendor_msft_passportforwork_{tenantid}"
    yield "Windows10", group(
        tenant,
        simple(f"{tenant}_policies_pincomplexity_minimumpinlength", "Integer", 6),
        choice(f"{tenant}_policies_usepassportforwork", "true"),
    )


async def catalogue(management):
    for platform, instance in policies():
        sent = Of(
            "DeviceManagementConfigurationPolicy", name=f"{platform} catalogue", description="d",
            platforms=word("DeviceManagementConfigurationPlatforms", platform),
            technologies=word("DeviceManagementConfigurationTechnologies", "Mdm"),
        )
        body = sent.build()
        whole = Of("DeviceManagementConfigurationSetting", setting_instance=instance)
        body.settings = [whole.build()]
        made = await management.configuration_policies.post(body)
        compare(sent, made, "the policy")
        one = management.configuration_policies.by_device_management_configuration_policy_id(made.id)
        compare([whole], (await one.settings.get()).value, f"the settings of {made.name}")
        compare(sent, await one.get(), "the policy that was read")
        check(made.setting_count == 1 and made.is_assigned is False, f"a policy of the settings catalogue for {platform} keeps its settings")
        await one.delete()
    definitions = (await management.configuration_settings.get()).value
    kinds = {type(one).__name__.removeprefix("DeviceManagementConfiguration") for one in definitions}
    check("ChoiceSettingDefinition" in kinds and "SettingGroupCollectionDefinition" in kinds, f"definitions are of their classes: {kinds}")
    categories = (await management.configuration_categories.get()).value
    check({one.category_id for one in definitions} == {one.id for one in categories}, "each is of a category")


async def refused(call, text):
    try:
        await call
    except ODataError as error:
        check(error.response_status_code == 400 and text in error.error.message, f"{text} is refused by name")
        return
    sys.exit(f"not so: {text} is refused by name")


async def identities(management):
    """An identity is brought for a person, read, changed and deleted."""
    key = serialization.load_pem_public_key(os.environ["PUBLIC_KEY"].encode())
    hashed = hashes.SHA256()
    oaep = padding.OAEP(mgf=padding.MGF1(algorithm=hashed), algorithm=hashed, label=None)
    password = base64.b64encode(key.encrypt(os.environ["PFX_PASSWORD"].encode("utf-16-le"), oaep)).decode()
    sent = Of(
        "UserPFXCertificate", user_principal_name="ana@day.example", intended_purpose=word("UserPfxIntendedPurpose", "SmimeEncryption"),
        key_name=os.environ["KEY_NAME"], provider_name="Muster", padding_scheme=word("UserPfxPaddingScheme", "OaepSha256"),
        thumbprint=os.environ["THUMBPRINT"],
    )
    body = sent.build()
    body.encrypted_pfx_blob = base64.b64decode(os.environ["PFX"])
    body.encrypted_pfx_password = password
    made = await management.user_pfx_certificates.post(body)
    compare(sent, made, "the identity")
    check(made.encrypted_pfx_blob is None and made.encrypted_pfx_password is None, "neither file nor password comes back")
    one = management.user_pfx_certificates.by_user_p_f_x_certificate_id(made.id)
    shown = await one.get()
    compare(sent, shown, "the identity that was read")
    check(shown.start_date_time < shown.expiration_date_time, "it has the life of its certificate")
    query = UserPfxCertificatesRequestBuilder.UserPfxCertificatesRequestBuilderGetQueryParameters(
        filter="userPrincipalName eq 'ana@day.example'"
    )
    found = (await management.user_pfx_certificates.get(request_configuration=RequestConfiguration(query_parameters=query))).value
    check([entry.id for entry in found] == [made.id], "it is found by its person")
    await one.patch(Of("UserPFXCertificate", intended_purpose=word("UserPfxIntendedPurpose", "Vpn")).build())
    check((await one.get()).intended_purpose is word("UserPfxIntendedPurpose", "Vpn"), "what it is for is changed")
    await one.delete()
    check(not (await management.user_pfx_certificates.get()).value, "and it is gone")


async def main():
    credential = ClientSecretCredential(TENANT, CLIENT, SECRET, authority=BASE, disable_instance_discovery=True)
    provider = AzureIdentityAuthenticationProvider(credential, scopes=[f"{BASE}/.default"], allowed_hosts=[HOST])
    adapter = GraphRequestAdapter(provider)
    adapter.base_url = f"{BASE}/beta"
    management = GraphServiceClient(request_adapter=adapter).device_management
    made = []
    for sent in configurations():
        one = await management.device_configurations.post(sent.build())
        name = f"{sent.kind.__name__} {one.display_name}"
        compare(sent, one, name)
        shown = await management.device_configurations.by_device_configuration_id(one.id).get()
        compare(sent, shown, name)
        made.append(one.id)
        check(True, f"{name} keeps what it was given")
    listed = (await management.device_configurations.get()).value
    check({one.id for one in listed} == set(made), "all are listed, each of its class")
    pc = Of("Windows10PkcsCertificateProfile", display_name="PC").build()
    await refused(management.device_configurations.post(pc), "windows10PkcsCertificateProfile")
    await identities(management)
    await catalogue(management)


asyncio.run(main())
