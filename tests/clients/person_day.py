"""A person signs in through Microsoft's MSAL: by a code at the browser, by a code for another device, silently, and out again. The browser is
a session of requests without scripts."""

import html
import os
import re
import sys
from urllib.parse import parse_qs, urlsplit

import msal
import requests

BASE, TENANT, CLIENT, USER, PASS, ROOT = (os.environ[name] for name in ("BASE", "TENANT", "CLIENT", "USER", "PASS", "ROOT"))
REDIRECT = "http://localhost:4711/"
SCOPES = [f"{BASE}/User.Read"]

browser = requests.Session()
browser.verify = ROOT
browser.headers["Accept"] = "text/html"


def check(condition, what, seen=""):
    if not condition:
        sys.exit(f"not so: {what}: {seen}")
    print(f"ok: {what}")


def field(page, name):
    found = re.search(rf'name="{name}"[^>]*value="([^"]*)"', page.text)
    if not found:
        sys.exit(f"no {name} in {page.url}: {page.text}")
    return html.unescape(found[1])


def follow(url):
    """Goes where the browser is sent, signing in on the way, until it is sent to the application."""
    for _ in range(10):
        page = browser.get(url, allow_redirects=False)
        if page.status_code in (302, 303):
            url = requests.compat.urljoin(BASE, page.headers["Location"])
            if url.startswith(REDIRECT):
                return url
            continue
        check(urlsplit(url).path == "/signin", "the browser is asked to sign in", url)
        fields = {"mark": field(page, "mark"), "next": field(page, "next"), "user_name": USER, "pass": PASS}
        sent = browser.post(f"{BASE}/signin", data=fields, allow_redirects=False)
        check(sent.status_code == 303, "the pass is taken", sent.text[:2000])
        # Not the page that offers a passkey, but where it leads to.
        url = requests.compat.urljoin(BASE, fields["next"])
    sys.exit(f"nowhere: {url}")


def me(token):
    answer = requests.get(f"{BASE}/v1.0/me", headers={"Authorization": f"Bearer {token}"}, verify=ROOT, timeout=30)
    return answer.json().get("userPrincipalName") if answer.status_code == 200 else answer.status_code


app = msal.PublicClientApplication(CLIENT, authority=f"{BASE}/{TENANT}", instance_discovery=False, verify=ROOT)

flow = app.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT, login_hint=USER)
check("error" not in flow and "code_challenge=" in flow["auth_uri"], "MSAL begins with PKCE", flow)
answer = {name: values[0] for name, values in parse_qs(urlsplit(follow(flow["auth_uri"])).query).items()}
result = app.acquire_token_by_auth_code_flow(flow, answer)
check("access_token" in result, "MSAL takes the code, the state, the nonce and the identity", result)
check(result["id_token_claims"]["preferred_username"] == USER, "the identity token names the person")
check(me(result["access_token"]) == USER, "the API answers the person")

account = app.get_accounts()[0]
check(account["username"] == USER and account["home_account_id"].endswith(f".{TENANT}"), "MSAL knows the account", account)
again = app.acquire_token_silent_with_error(SCOPES, account, force_refresh=True)
check(again and again.get("access_token") not in (None, result["access_token"]), "a refresh token is exchanged", again)
third = app.acquire_token_silent_with_error(SCOPES, account, force_refresh=True)
check(third and "access_token" in third, "and the next one", third)
check(me(third["access_token"]) == USER, "the API answers the person still")
replayed = app.acquire_token_by_auth_code_flow(flow, answer)
check(replayed.get("error") == "invalid_grant" and 54005 in replayed["error_codes"], "a code is good once", replayed)
check(me(third["access_token"]) == 401, "and whoever shows it again ends what came of it")
silent = app.acquire_token_silent_with_error(SCOPES, account, force_refresh=True)
check(silent.get("error") == "invalid_grant", "MSAL hears that it has to ask the person", silent)

flow = app.initiate_device_flow(SCOPES)
check("user_code" in flow, "MSAL begins at another device", flow)
page = browser.get(flow["verification_uri"])
page = browser.post(flow["verification_uri"], data={"mark": field(page, "mark"), "code": flow["user_code"]})
check("Go on only if you started it yourself" in page.text, "the person is warned", page.text[:2000])
page = browser.post(flow["verification_uri"], data={"mark": field(page, "mark"), "code": flow["user_code"], "decision": "yes"})
check("The program is signed in" in page.text, "the person agrees", page.text[:2000])
result = app.acquire_token_by_device_flow(flow)
check("access_token" in result and me(result["access_token"]) == USER, "the program is signed in", result)
