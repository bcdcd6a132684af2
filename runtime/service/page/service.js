// Sends a scan to the service, tells of the progress, and shows the report.
"use strict";

const element = (id) => document.getElementById(id);
let models = [];
let sending = null;

const say = (text) => (element("state").textContent = text);

function headers() {
  const token = element("token").value;
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function listModels() {
  const answer = await fetch("models", { headers: headers() });
  if (answer.status === 401) {
    element("secret").hidden = false;
    say("This service asks for a token.");
    return;
  }
  models = await answer.json();
  element("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  say("");
  tellChannels();
}

function tellChannels() {
  const model = models.find(({ name }) => name === element("model").value);
  const channels = model ? model.channels : [];
  const needed = channels.length > 1 ? `Channels in this order: ${channels.join(", ")}.` : "";
  element("channels").textContent = needed;
}

function tellFiles() {
  const names = [...element("scan").files].map(({ name }, index) => `${index + 1}. ${name}`);
  element("chosen").textContent = names.length > 1 ? names.join("  ") : "";
}

/** Each line of an answer, parsed, as it comes. */
async function* linesOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const parts = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const [first, ...others] = value.split("\n");
    parts.push(first);
    for (const other of others) {
      yield JSON.parse(parts.join(""));
      parts.splice(0, parts.length, other);
    }
  }
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

function offer(link, content, name) {
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([content]));
  link.download = name;
  link.hidden = false;
}

function showResult({ result, name, base64 }) {
  const content = bytesOf(base64);
  offer(element(result), content, name);
  if (result === "report") {
    element("shown").srcdoc = new TextDecoder().decode(content);
    element("shown").hidden = false;
    say("Done.");
  }
}

function take(event) {
  const bar = element("progress");
  if (event.event === "error") throw new Error(event.error);
  if (event.event === "warning") {
    const line = document.createElement("li");
    line.textContent = event.warning;
    element("warnings").append(line);
  } else if (event.event === "result") showResult(event);
  else if (event.event === "progress") {
    Object.assign(bar, { max: event.count, value: event.done });
    say(event.stage);
  } else say(event.event === "waiting" ? "Waiting for other scans" : "Reading the scan");
}

function clear() {
  for (const id of ["labels", "report", "shown"]) element(id).hidden = true;
  element("warnings").replaceChildren();
  element("progress").removeAttribute("value");
}

function setBusy(busy) {
  element("send").disabled = busy;
  element("stop").hidden = element("progress").hidden = !busy;
}

async function send() {
  const form = new FormData();
  for (const file of element("scan").files) form.append("scan", file);
  form.append("model", element("model").value);
  for (const kind of ["labels", "report"]) form.append("result", kind);
  sending = new AbortController();
  const answer = await fetch("segment", {
    method: "POST",
    body: form,
    headers: { ...headers(), Accept: "application/x-ndjson" },
    signal: sending.signal,
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  for await (const event of linesOf(answer)) take(event);
}

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  clear();
  setBusy(true);
  say("Sending");
  try {
    await send();
  } catch (error) {
    say(error.name === "AbortError" ? "Stopped." : error.message);
  }
  setBusy(false);
});
element("stop").addEventListener("click", () => sending.abort());
element("model").addEventListener("change", tellChannels);
element("scan").addEventListener("change", tellFiles);
element("token").addEventListener("change", () => listModels().catch((error) => say(error.message)));
for (const kind of ["dragover", "dragleave", "drop"]) {
  element("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragover");
    if (kind !== "drop") return;
    element("scan").files = event.dataTransfer.files;
    tellFiles();
  });
}
listModels().catch((error) => say(error.message));
