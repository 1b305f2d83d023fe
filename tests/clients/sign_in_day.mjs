// A person's day at the sign-in and account pages in headless Chromium, with an authenticator that Chromium plays itself. Each page is held
// against axe's rules, in light and dark. Says on its last line, in JSON, the code that an application got.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";

const { BASE, LINK, AUTHORIZE, CONSENT, CHROMIUM, NODE_FOLDER, SHOTS } = process.env;
const axe = readFileSync(createRequire(join(NODE_FOLDER, "package.json")).resolve("axe-core/axe.min.js"), "utf8");
const seconds = 20;

/** The hash of the server's key: Chromium takes its certificate for good, and passkeys work. */
function serverKey() {
  const { hostname, port } = new URL(BASE);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port, servername: hostname, rejectUnauthorized: false }, () => {
      const der = socket.getPeerX509Certificate().publicKey.export({ type: "spki", format: "der" });
      socket.end();
      resolve(createHash("sha256").update(der).digest("base64"));
    });
    socket.on("error", reject);
  });
}

/** Chromium, spoken to by the DevTools protocol over a pipe. */
class Browser {
  #next = 1;
  #waiting = new Map();
  #rest = "";
  session = undefined;
  complaints = [];

  constructor(key) {
    this.profile = mkdtempSync(join(tmpdir(), "sign-in-day-"));
    const flags = [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
      `--ignore-certificate-errors-spki-list=${key}`, `--user-data-dir=${this.profile}`, "about:blank",
    ];
    this.process = spawn(CHROMIUM, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.process.stdio[4].setEncoding("utf8").on("data", text => this.#read(text));
  }

  #read(text) {
    const parts = (this.#rest + text).split("\0");
    this.#rest = parts.pop();
    for (const message of parts.map(part => JSON.parse(part))) {
      if (message.id) {
        const { resolve, reject } = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        message.error ? reject(new Error(JSON.stringify(message.error))) : resolve(message.result);
      } else if (message.method === "Log.entryAdded" && message.params.entry.source !== "network") {
        this.complaints.push(message.params.entry.text);
      } else if (message.method === "Runtime.exceptionThrown") {
        this.complaints.push(JSON.stringify(message.params.exceptionDetails));
      }
    }
  }

  send(method, params = {}) {
    const id = this.#next++;
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.session })}\0`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  async open() {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    this.session = (await this.send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Log", "WebAuthn"]) await this.send(`${domain}.enable`);
    const options = {
      protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
      automaticPresenceSimulation: true,
    };
    this.authenticator = (await this.send("WebAuthn.addVirtualAuthenticator", { options })).authenticatorId;
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  /** Waits until the page has loaded and the expression holds there. */
  async until(expression) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
      // In between pages there is nothing to ask.
      const holds = await this.run(`document.readyState === "complete" && !!(${expression})`).catch(() => false);
      if (holds) return;
      if (Date.now() > end) {
        const page = await this.run("location.href + '\\n' + document.body.innerText");
        throw new Error(`never came: ${expression}\n${page}\n${this.complaints.join("\n")}`);
      }
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }

  async go(url) {
    await this.send("Page.navigate", { url: new URL(url, BASE).href });
  }

  /** Presses what a person sees by that name. */
  async press(name) {
    const found = `[...document.querySelectorAll("button, a.button, summary")].find(each => each.innerText.trim().startsWith(${JSON.stringify(name)}) && each.offsetParent)`;
    await this.until(found);
    await this.run(`${found}.click()`);
  }

  /** Holds the page against axe's rules, wide in light and narrow in dark. */
  async look(title, name) {
    await this.until(`document.title.includes(${JSON.stringify(title)})`);
    await this.run(axe);
    for (const [scheme, width] of [["light", 1280], ["dark", 360]]) {
      await this.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
      await this.send("Emulation.setDeviceMetricsOverride", { width, height: 800, deviceScaleFactor: 1, mobile: width < 500 });
      const found = await this.run("axe.run().then(said => said.violations.map(each => `${each.id}: ${each.nodes.map(node => node.html).join(' ')}`))");
      assert.deepEqual(found, [], `${name} in ${scheme}`);
      const beyond = await this.run("document.documentElement.scrollWidth - document.documentElement.clientWidth");
      assert.ok(beyond <= 0, `${name} is ${beyond} pixels too wide at ${width}`);
      if (SHOTS) {
        const { data } = await this.send("Page.captureScreenshot", { format: "png" });
        writeFileSync(join(SHOTS, `${name}-${scheme}.png`), Buffer.from(data, "base64"));
      }
    }
  }

  async close() {
    const over = new Promise(resolve => this.process.once("exit", resolve));
    await this.send("Browser.close").catch(() => {});
    await over;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** The application: where the browser ends up with the code. */
async function application() {
  const server = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<title>Application</title>"));
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  return { server, uri: `http://127.0.0.1:${server.address().port}/cb` };
}

const browser = new Browser(await serverKey());
const { server, uri } = await application();
try {
  await browser.open();
  // The link of an administrator fills in name and pass.
  await browser.go(LINK);
  await browser.look("Sign in to", "signin");
  assert.equal(await browser.run("location.hash"), "", "the pass is not in the address any more");
  await browser.press("Sign in with the pass");
  await browser.look("Register a passkey", "welcome");
  await browser.press("Register a passkey");
  await browser.until("document.getElementById('ceremony')");
  await browser.look("Register a passkey", "passkey");
  await browser.run("document.getElementById('name').value = 'Laptop'");
  await browser.press("Create the passkey");
  await browser.until("location.pathname === '/account/security' && document.body.innerText.includes('Laptop')");
  await browser.look("Security info", "security");
  const { credentials } = await browser.send("WebAuthn.getCredentials", { authenticatorId: browser.authenticator });
  assert.deepEqual(credentials.map(each => [each.rpId, each.isResidentCredential]), [["localhost", true]]);
  await browser.press("Change");
  await browser.look("Security info", "security-change");
  await browser.go("/account/devices");
  await browser.look("Devices", "devices");
  await browser.go("/devicelogin");
  await browser.look("Sign in a program", "devicelogin");

  // An application that asks for what nobody consented to, and for an account.
  const to = url => `${url}&redirect_uri=${encodeURIComponent(uri)}`;
  await browser.go(to(CONSENT));
  await browser.look("Consent", "consent");
  await browser.press("Decline");
  await browser.until("new URLSearchParams(location.search).get('error') === 'access_denied'");
  await browser.go(`${to(AUTHORIZE)}&prompt=select_account`);
  await browser.look("Choose an account", "choose");
  await browser.go(new URL(AUTHORIZE).pathname.replace("authorize", "logout"));
  await browser.look("Sign out", "signout");
  await browser.press("Sign out");
  await browser.until("location.pathname === '/signin'");

  // Signed out: the passkey alone opens the application, through three pages that lead to another host in the end.
  await browser.go(to(AUTHORIZE));
  await browser.press("Sign in with a passkey");
  await browser.until(`location.href.startsWith(${JSON.stringify(uri)})`);
  const query = new URL(await browser.run("location.href")).searchParams;
  assert.equal(query.get("state"), "back");
  await browser.go(`${to(AUTHORIZE)}&response_mode=form_post`);
  await browser.until(`location.href === ${JSON.stringify(uri)} && document.title === "Application"`);
  await browser.go(AUTHORIZE.replace(/client_id=[^&]*/, "client_id=x"));
  await browser.until("document.body.innerText.includes('AADSTS700016')");
  await browser.look("", "problem");
  assert.deepEqual(browser.complaints, []);
  console.log(JSON.stringify({ code: query.get("code"), redirect_uri: uri }));
} finally {
  server.close();
  await browser.close();
}
