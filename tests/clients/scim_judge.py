"""scim2-tester judges the server: what it publishes of itself, and each attribute that it says it has."""

import os
import ssl
import sys

import httpx2
import scim2_tester.checkers.patch_add
import scim2_tester.checkers.patch_replace
import scim2_tester.filling
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

usual = scim2_tester.filling.generate_random_value


def value(context, path, mutability=None, required=None):
    """What the tester makes up, but for what no schema can say: user names are user principal names, and of one value it is the first."""
    made = usual(context, path, mutability, required)
    if made is not None and str(path).endswith("userName"):
        return f"{made}@judge.example"
    if isinstance(made, list) and made and getattr(made[0], "primary", None) is not None:
        made[0].primary = True
    return made


for module in (scim2_tester.filling, scim2_tester.checkers.patch_add, scim2_tester.checkers.patch_replace):
    module.generate_random_value = value

http = httpx2.Client(
    base_url=os.environ["BASE"],
    headers={"Authorization": f"Bearer {os.environ['TOKEN']}"},
    verify=ssl.create_default_context(cafile=os.environ["ROOT"]),
    trust_env=False,
    timeout=60,
)
results = check_server(SyncSCIMClient(http))
bad = [result for result in results if result.status in (Status.ERROR, Status.CRITICAL, Status.DEVIATION)]
for result in bad:
    print(f"{result.status.name}: {result.title}: {result.resource_type}: {result.reason}\n  {result.data}")
good = [result for result in results if result.status in (Status.SUCCESS, Status.COMPLIANT, Status.ACCEPTABLE)]
skipped = [f"{result.title}: {result.reason}" for result in results if result.status == Status.SKIPPED]
print(f"good: {len(good)}")
print(f"skipped: {skipped}")
sys.exit(1 if bad else 0)
