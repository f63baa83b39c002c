// The page talks to /v1/info and /v1/jobs of the service that served it, and to nothing else.
import { ask, finished, patiently, persistently } from "./service.js";

const at = id => document.getElementById(id);
const show = (id, shown) => { at(id).hidden = !shown; };
const number = value => value.toLocaleString("en");
const size = (width, height) => `${number(width)}\u00a0×\u00a0${number(height)}`;  // never broken in two
const names = { WEBP: "WebP", HEIF: "HEIC" };

let picture = null;   // the chosen file
let sides = null;     // its [width, height], null where the browser cannot read it
let current = null;   // the running attempt: {stopped, tell, job, over, abort}
let withJobs = true;  // whether the service takes jobs; else the answer is waited for on the line
let heard = "";       // what screen readers were last told, its number in tens
const urls = {};      // object URLs by the element that shows them

// --- one picture's way ----------------------------------------------------------------------

async function enlarge() {
  if (!picture || current) return;
  const asked = { scale: value("scale"), format: at("format").value, name: picture.name };
  const what = picture.name || "the picture", file = picture;
  await attempted(withJobs ? `Sending ${what}…` : `Enlarging ${what}…`, async attempt => {
    const sent = await patiently(`${withJobs ? "v1/jobs" : "v1/upscale"}?${query(asked)}`, {
      method: "POST", body: file, signal: attempt.abort.signal,
      headers: { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" },
    }, attempt);
    if (!withJobs) return present(await sent.blob(), described(sent.headers), asked, file);
    const { id } = await sent.json();
    sessionStorage.setItem("job", JSON.stringify({ id, asked }));
    await fetchResult(id, attempt, asked, file);
  });
}

async function resume() {
  // A page that was loaded anew goes on with its job; the picture itself it has no longer.
  const kept = JSON.parse(sessionStorage.getItem("job"));
  if (!kept || current) return;
  const what = kept.asked.name || "the picture";
  await attempted(`Asking after ${what}…`, async attempt => {
    try {
      await fetchResult(kept.id, attempt, kept.asked, null);
    } catch (error) {
      throw error.status === 404 ? new Error(`The service no longer has ${what}: choose it again.`) : error;
    }
  });
}

async function attempted(first, work) {
  const attempt = current = { stopped: false, tell: say, job: null, over: false, abort: new AbortController() };
  begin(first);
  try {
    await work(attempt);
  } catch (error) {
    if (!attempt.stopped) complain(error.message);
  } finally {
    end(attempt);
  }
}

async function fetchResult(id, attempt, asked, file) {
  attempt.job = id;
  try {
    const done = await finished(id, attempt, progress);
    if (attempt.stopped) return;
    if (done.state === "failed") {
      attempt.over = true;
      return complain(done.error.message);
    }
    const made = await persistently(`v1/jobs/${id}/result`, attempt, answer => answer.blob());
    present(made, done, asked, file);
    attempt.over = true;
  } catch (error) {
    // Whatever else happened, the job is still there, and the page loaded anew asks after it.
    attempt.over = error.status === 404;
    throw error;
  }
}

function described(headers) {
  // What /v1/upscale tells in headers, as a job tells it.
  const [width, height] = headers.get("X-Tudsr-Size").split("x").map(Number);
  const seconds = { compute: headers.get("X-Tudsr-Compute-Seconds"), encode: headers.get("X-Tudsr-Encode-Seconds") };
  const remade_tiles = Number(headers.get("X-Tudsr-Remade-Tiles"));
  return { width, height, model: headers.get("X-Tudsr-Model"), seconds, remade_tiles };
}

function query(asked) {
  const wanted = new URLSearchParams({ scale: asked.scale, format: asked.format });
  if (!at("fidelity-field").hidden) wanted.set("fidelity", at("fidelity").value);
  return wanted;
}

function end(attempt) {
  if (attempt.job && (attempt.over || attempt.stopped)) {
    sessionStorage.removeItem("job");
    ask(`v1/jobs/${attempt.job}`, { method: "DELETE" }).catch(() => {});
  }
  if (attempt.stopped) say("");
  show("work", false);
  current = null;
  ready();
}

function stop() {
  if (!current) return;
  current.stopped = true;
  if (!current.job) current.abort.abort();
  say("Stopping…");
}

// --- what people see ------------------------------------------------------------------------

function begin(first) {
  show("error", false);
  show("result", false);
  show("work", true);
  at("bar").removeAttribute("value");
  say("");
  say(first);
  ready();
}

function progress(job) {
  if (job.state === "queued") return say("Waiting for its turn…");
  if (job.progress >= 1) {  // all tiles are made; how long the rest takes is not known
    at("bar").removeAttribute("value");
    return say("Finishing…");
  }
  at("bar").value = job.progress;
  say(`Enlarging, ${Math.round(job.progress * 100)} % done…`);
}

function say(text) {
  at("state").textContent = text;
  // Screen readers hear of every 10 % or 10 s alone.
  const roughly = text.replace(/\d+(?= (?:%|s…))/, n => Math.floor(n / 10));
  if (roughly === heard) return;
  heard = roughly;
  at("aloud").textContent = text;
}

function complain(text) {
  at("error").textContent = text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
  show("error", true);
}

function link(name, blob) {
  if (urls[name]) URL.revokeObjectURL(urls[name]);
  return urls[name] = URL.createObjectURL(blob);
}

function present(blob, job, asked, file) {
  at("after").src = at("save").href = link("after", blob);
  if (file) at("before").src = link("before", file);
  for (const name of ["pair", "ends"]) at(name).classList.toggle("alone", !file || !sides);
  const suffix = { jpeg: "jpg" }[asked.format] ?? asked.format;
  at("save").download = `${(asked.name || "picture").replace(/\.[^.]*$/, "")}-x${asked.scale}.${suffix}`;
  at("made").textContent = `${size(job.width, job.height)} pixels`;
  const seconds = Number(job.seconds.compute) + Number(job.seconds.encode);
  at("took").textContent = `${(blob.size / 1e6).toFixed(blob.size < 1e6 ? 2 : 1)} MB, made in ${seconds.toFixed(1)} s by ${job.model}`;
  if (job.remade_tiles) at("took").textContent += `, ${job.remade_tiles} of its tiles again in full precision`;
  show("result", true);
  say(`Done: ${at("made").textContent}.`);
  zoom(false);
  at("view").classList.toggle("small", job.width / devicePixelRatio < at("view").clientWidth);
  slide(50);
  at("slide").focus({ preventScroll: true });
  at("result").scrollIntoView({ block: "start", behavior: "smooth" });
}

function slide(percent) {
  at("slide").value = percent;
  at("before").style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
  at("line").style.left = `${percent}%`;
}

function drag(event) {
  // Of the line's handle, where a finger on the picture moves the picture.
  const pair = at("pair").getBoundingClientRect();
  slide(Math.min(100, Math.max(0, 100 * (event.clientX - pair.left) / pair.width)));
}

function zoom(actual) {
  at("zoom").setAttribute("aria-pressed", actual);
  at("view").classList.toggle("fit", !actual);
  at("view").tabIndex = actual ? 0 : -1;  // so that arrow keys move it
}

function value(name) { return document.querySelector(`input[name="${name}"]:checked`).value; }

function ready() {
  at("go").disabled = !picture || Boolean(current);
  at("file").disabled = Boolean(current);
  for (const name of ["another", "invite"]) at(name).classList.toggle("off", Boolean(current));
  if (!sides) return;
  const [w, h] = sides, s = Number(value("scale"));
  at("size").textContent = `${size(w, h)} → ${size(w * s, h * s)} pixels`;
}

// --- choosing a picture ---------------------------------------------------------------------

async function choose(file) {
  if (!file || current) return;
  picture = file;
  sides = null;
  show("error", false);
  show("result", false);
  show("invite", false);
  show("chosen", true);
  at("name").textContent = file.name || "Pasted picture";
  at("size").textContent = `${(file.size / 1e6).toFixed(2)} MB`;
  at("thumb").src = link("thumb", file);
  at("thumb").classList.remove("blank");
  ready();
  try {
    const read = await createImageBitmap(file);
    if (picture === file) sides = [read.width, read.height];
    read.close();
  } catch {
    at("thumb").classList.add("blank");
    at("size").textContent += ", no preview: this browser cannot show it";
  }
  ready();
  at("go").focus({ preventScroll: true });
}

function fidelityTold() {
  const f = Number(at("fidelity").value);
  const word = f <= 0 ? "as it was" : f < 0.4 ? "faithful" : f < 0.8 ? "between" : "generated";
  at("fidelity-told").textContent = `${f.toFixed(1)}, ${word}`;
}

async function introduce() {
  try {
    const info = await (await ask("v1/info")).json();
    const version = info.version ? ` version ${info.version}` : "";
    at("model").textContent = `${info.model}${version}, bundle ${info.bundle.slice(0, 12)}`;
    at("kinds").textContent = `${info.formats.read.map(name => names[name] ?? name).join(", ")}, up to ${Math.round(info.limits.upload_bytes / 2 ** 20)} MB`;
    show("token-field", false);
    resume();
    withJobs = info.limits.jobs > 0;
    const avif = document.querySelector("option[value='avif']");
    avif.hidden = avif.disabled = !info.formats.written.includes("AVIF");
    const fidelity = info.parameters.fidelity;
    if (fidelity) {
      show("fidelity-field", true);
      if (fidelity.default !== undefined) at("fidelity").value = fidelity.default;
      fidelityTold();
    }
  } catch (error) {
    if (error.status === 503) { at("model").textContent = "the model is being loaded…"; setTimeout(introduce, 2000); }
    else if (error.status !== 401) complain(error.message);
    else if (sessionStorage.getItem("token")) complain("This is not a token that the service knows");
  }
}

at("form").addEventListener("submit", event => { event.preventDefault(); enlarge(); });
at("form").addEventListener("change", ready);
at("file").addEventListener("change", event => { choose(event.target.files[0]); event.target.value = ""; });
at("stop").addEventListener("click", stop);
at("zoom").addEventListener("click", () => zoom(at("zoom").getAttribute("aria-pressed") !== "true"));
at("slide").addEventListener("input", event => slide(Number(event.target.value)));
at("line").addEventListener("pointerdown", event => at("line").setPointerCapture(event.pointerId));
at("line").addEventListener("pointermove", event => { if (at("line").hasPointerCapture(event.pointerId)) drag(event); });
at("fidelity").addEventListener("input", fidelityTold);
document.addEventListener("token-wanted", () => { show("token-field", true); at("token").focus(); });
at("token").addEventListener("change", event => { show("error", false); sessionStorage.setItem("token", event.target.value.trim()); introduce(); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, event => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", event => {
  const file = event.clipboardData.files[0];
  if (file) choose(file);
});
introduce();
