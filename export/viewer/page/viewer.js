// The page: what is looked at, the controls, and (live) the questions to the server. Only the last question counts.
const about = JSON.parse(document.getElementById("about").textContent);
const $ = (id) => document.getElementById(id);
const MAPS_SHOWN = ["Shaded", "Albedo", "Normal", "Specular", "Shininess", "Depth", "Diffuse light", "Specular light"];
const DISTANCE = (tangent) => 1 / Math.sin(Math.atan(tangent));
const state = { view: [0, 0, 0, 0, 0, 0], tangent: Math.tan(Math.PI / 30), strengths: [0.5, 0.6, 0], toLight: [0, 0, 1], gains: [1, 1],
  shown: 0, zoom: 1, glyphs: about.kind === "dataset", seed: 0, other: 1, mix: 0, truncation: about.truncation ?? 1, index: 0 };
let picture, surface, mesh = null, maps = null, mapsView = null, stored = null, frame = 0, settled = 0, since = 0, what = "";

// --- packs (pack.py)
const TYPES = { u1: Uint8Array, i2: Int16Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, e] of Object.entries(header.arrays)) {
    const raw = new TYPES[e.dtype](buffer, 4 + length + e.start, e.shape.reduce((a, b) => a * b, 1));
    arrays[name] = e.scale === 1 && e.low === 0 ? raw : Float32Array.from(raw, (x) => x * e.scale + e.low);
    arrays[name].shape = e.shape;
  }
  return { about: header.about, arrays };
}
async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return unpack(await new Response(stream).arrayBuffer());
}
function toMaps(arrays, suffix = "") {
  const get = (name) => arrays[name + suffix], size = get("mask").shape[0], n = size * size;
  const m = { size, paint: new Uint8Array(4 * n), shape: new Float32Array(4 * n), gloss: new Float32Array(2 * n), range: [1e9, 0, 1e-6] };
  const [mask, albedo, normals, specular, shininess, depth] =
    ["mask", "albedo", "normals", "specular", "shininess", "depth"].map(get);
  for (let i = 0; i < n; i++) {
    m.paint.set([albedo[3 * i], albedo[3 * i + 1], albedo[3 * i + 2], mask[i] * 255], 4 * i);
    m.shape.set([normals[3 * i], normals[3 * i + 1], normals[3 * i + 2], depth[i]], 4 * i);
    m.gloss.set([specular[i], shininess[i]], 2 * i);
    if (mask[i]) m.range = [Math.min(m.range[0], depth[i]), Math.max(m.range[1], depth[i]), Math.max(m.range[2], specular[i])];
  }
  return m;
}
function setMesh(arrays) {
  mesh = arrays.vertices ?? null;
  if (!mesh) return;
  const n = mesh.length / 3, gloss = new Float32Array(2 * n);
  let peak = 1e-6;
  for (let i = 0; i < n; i++) { gloss.set([arrays.reflection[i], arrays.exponent[i]], 2 * i); peak = Math.max(peak, arrays.reflection[i]); }
  mesh.peak = peak;
  const albedo = Float32Array.from(arrays.vertex_albedo, (c) => c / 255);
  for (const pane of [picture, surface]) pane.setPiece("mesh", "TRIANGLES", arrays.faces, mesh, arrays.normals, albedo, gloss);
}
function setGlyphs(cameras, lights) { // lines: a frustum per camera, an arrow per light
  const points = [], colors = [];
  const line = (a, b, c) => { points.push(...a, ...b); colors.push(...c, ...c); };
  for (const { view } of cameras) {
    const turn = rotation(view), at = (x, y, z) => applyInverse(turn, [x, y, z]);
    const eye = at(0, 0, 1.75), corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => at(0.13 * x, 0.13 * y, 1.45));
    corners.forEach((c, i) => { line(eye, c, [0.35, 0.5, 0.8]); line(c, corners[(i + 1) % 4], [0.35, 0.5, 0.8]); });
  }
  for (const light of lights) {
    const l = light.slice(3), side = Math.abs(l[1]) > 0.9 ? [1, 0, 0] : [0, 1, 0], tip = l.map((x) => 1.15 * x);
    line(l.map((x) => 1.6 * x), tip, [0.9, 0.6, 0.15]);
    for (const s of [-0.05, 0.05]) line(tip, l.map((x, i) => 1.25 * x + s * side[i]), [0.9, 0.6, 0.15]);
  }
  const gloss = new Float32Array(points.length / 3 * 2).fill(-1), p = new Float32Array(points);
  surface.setPiece("glyphs", "LINES", [...Array(points.length / 3).keys()], p, p, new Float32Array(colors), gloss);
}

// --- drawing
const camera = () => ({ turn: rotation(state.view), tangent: state.tangent,
  move: [state.view[3], state.view[4], state.view[5] - DISTANCE(state.tangent)] });
const near = (a, b) => a && b && a.every((x, i) => Math.abs(x - b[i]) < 1e-5);
const exact = () => maps && near(mapsView, state.view);
function look() {
  const d = DISTANCE(state.tangent);
  return { ...state, range: exact() ? maps.range : [d - 1, d + 1, mesh?.peak ?? 1e-6] };
}
let queued = false;
function touch(cause) {
  if (cause) { what = cause; since = performance.now(); }
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; paint(); });
}
function paint() {
  const l = look(), c = camera(), ratio = Math.min(devicePixelRatio, 2);
  if (maps || mesh) picture.draw(l, c, exact(), exact() ? maps.size : 512, 1, ["glyphs"]);
  const side = Math.max(64, Math.round($("mesh").clientWidth * ratio));
  surface.draw(l, c, false, side, state.zoom * (state.glyphs ? 0.6 : 1), state.glyphs ? [] : ["glyphs"]);
  const onScreen = apply(c.turn, state.toLight);
  $("ball").style.setProperty("--x", `${50 + 44 * onScreen[0]}%`);
  $("ball").style.setProperty("--y", `${50 - 44 * onScreen[1]}%`);
  $("ball").classList.toggle("behind", onScreen[2] < 0);
  for (const set of Object.values(sliders)) set();
  if (since && what) { report(what, performance.now() - since); since = 0; }
  document.body.dataset.frame = String(++frame);
  document.body.dataset.exact = String(Boolean(exact()));
}
const times = {};
function report(name, ms) {
  times[name] = Math.round(ms);
  $("counter").textContent = Object.entries(times).map(([k, v]) => `${k} ${v} ms`).join(" · ");
  document.body.dataset.times = JSON.stringify(times);
}
function say(text) {
  $("toast").textContent = text;
  clearTimeout(say.timer);
  if (text) say.timer = setTimeout(() => say(""), 6000);
}

// --- questions: one of a kind under way, the latest wins
const asking = {};
async function ask(name, question) {
  const response = await fetch(`/api/${name}`, { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question) });
  if (!response.ok) throw new Error(await response.text());
  return response.arrayBuffer();
}
function latest(kind, job) { // job: async (stale) => ...
  const slot = (asking[kind] ??= { busy: false, next: null, number: 0 });
  slot.next = job;
  slot.number++;
  if (!slot.busy) run(slot);
}
async function run(slot) {
  slot.busy = true;
  while (slot.next) {
    const job = slot.next, number = slot.number;
    slot.next = null;
    try { await job(() => slot.number !== number); } catch (error) { say(error.message); }
  }
  slot.busy = false;
  document.body.dataset.settled = String(++settled);
}
const who = () => ({ seed: state.seed, truncation: state.truncation, other: state.other, mix: state.mix });
let resolution = 0; // of the mesh that is shown
function lift(resetPose) { // coarse at first
  const start = performance.now();
  latest("model", async (stale) => {
    const { about: facts, arrays } = await meshOf(Math.min(32, about.resolution));
    drawImage($("tile-gan"), arrays.image);
    if (resetPose) applyFacts(facts.camera, facts.light);
    await shoot();
    report("first", performance.now() - start);
    await finish(stale, start);
  });
}
async function finish(stale, start) { // in full, unless something else was asked for
  if (!stale() && resolution < about.resolution) {
    await meshOf(about.resolution);
    await shoot();
    if (start) report("instance", performance.now() - start);
  }
  if (!stale()) latest("projection", project);
}
async function meshOf(asked) {
  const found = unpack(await ask("instance", { ...who(), resolution: asked }));
  setMesh(found.arrays);
  mapsView = null;
  resolution = asked;
  return found;
}
async function shoot(extra = {}) { // the picture of the pose
  const view = [...state.view];
  const data = await ask("picture", { ...who(), view, resolution, size: about.size, ...extra });
  maps = toMaps(unpack(data).arrays);
  mapsView = view;
  picture.setMaps(maps);
  touch();
}
async function project() {
  const light = [...state.strengths, ...state.toLight];
  const { arrays } = unpack(await ask("projection", { ...who(), view: state.view, light, gains: state.gains }));
  drawImage($("tile-projection"), arrays.image);
}
function moved() { // the pose changed
  touch("turn");
  if (about.kind === "model") {
    const start = performance.now();
    latest("model", async (stale) => { await shoot(); report("pose", performance.now() - start); await finish(stale); });
  } else chooseView(stored?.cameras.findIndex((c) => near(c.view, state.view)) ?? -1);
}
let waiting;
function lit() { // the light changed
  touch("light");
  if (about.kind !== "model") return;
  clearTimeout(waiting);
  waiting = setTimeout(() => latest("projection", project), 120);
}
function applyFacts(cam, light) {
  if (cam) { state.view = [...cam.view]; state.tangent = cam.tangent; }
  if (light) { state.strengths = light.slice(0, 3); state.toLight = light.slice(3); }
}

// --- samples of a dataset, and of a share page
function chooseView(number) {
  if (number < 0) return;
  maps = toMaps(stored.arrays, `/${number}`);
  mapsView = [...stored.cameras[number].view];
  picture.setMaps(maps);
  touch();
}
function choose(view, light) {
  applyFacts(stored.cameras[view], stored.lights[light]);
  chooseView(view);
  [...$("grid").children].forEach((b, i) => b.setAttribute("aria-pressed", i === view * stored.lights.length + light));
  for (const name of ["colors", "colors_gan"]) {
    const all = stored.arrays[name], tile = $(`tile-${name}`);
    if (all && tile) drawImage(tile, cell(all, view, light));
  }
  touch();
}
function cell(all, view, light) {
  const [, l, h, w] = all.shape, n = h * w * 3, part = all.subarray((view * l + light) * n, (view * l + light + 1) * n);
  part.shape = [h, w, 3];
  return part;
}
function open({ about: facts, arrays }) {
  stored = { ...facts, arrays };
  setMesh(arrays);
  setGlyphs(stored.cameras, stored.lights);
  $("grid").replaceChildren();
  $("grid").style.gridTemplateColumns = `repeat(${stored.lights.length}, 52px)`;
  if (arrays.colors) stored.cameras.forEach((_, v) => stored.lights.forEach((_, l) => {
    const button = thumb(cell(arrays.colors, v, l), `View ${v}, light ${l}`);
    button.style.width = button.style.height = "52px";
    button.onclick = () => choose(v, l);
    $("grid").append(button);
  }));
  if (arrays.image && $("tile-gan")) drawImage($("tile-gan"), arrays.image);
  const words = [`seed ${facts.seed ?? facts.index}`, facts.split && `split ${facts.split}`].filter(Boolean);
  $("state").textContent = about.kind === "dataset" ? `sample ${facts.index} · ${words.join(" · ")} · done` : "";
  choose(0, 0);
}
function drawImage(canvas, image) {
  const [h, w] = image.shape, data = new ImageData(w, h);
  for (let i = 0; i < h * w; i++) data.data.set([image[3 * i], image[3 * i + 1], image[3 * i + 2], 255], 4 * i);
  canvas.width = w;
  canvas.height = h;
  canvas.getContext("2d").putImageData(data, 0, 0);
}
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
function thumb(image, label) {
  const canvas = make("canvas"), button = make("button", { type: "button", title: label, ariaLabel: label }, canvas);
  if (image) drawImage(canvas, image);
  return button;
}

// --- controls
const sliders = {};
function slider(parent, name, label, low, high, step, get, set, text = (x) => x.toFixed(2)) {
  const input = make("input", { type: "range", id: name, min: low, max: high, step }), output = make("output");
  const show = () => { if (document.activeElement !== input || input.valueAsNumber !== get()) input.value = get(); output.textContent = text(get()); };
  input.oninput = () => set(input.valueAsNumber);
  parent.append(make("label", { className: "row" }, make("span", { textContent: label }), input, output));
  sliders[name] = show;
}
function button(label, id, action) {
  const element = make("button", { type: "button", textContent: label, id });
  element.onclick = () => Promise.resolve(action()).catch((error) => say(error.message));
  $("actions").append(element);
}
function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function savePng() { // over the background of the model's renders
  const from = $("picture"), to = make("canvas", { width: from.width, height: from.height }), c = to.getContext("2d");
  const g = Math.round(255 * about.background);
  c.fillStyle = `rgb(${g},${g},${g})`;
  c.fillRect(0, 0, to.width, to.height);
  c.drawImage(from, 0, 0);
  to.toBlob((blob) => save(blob, "lift3d.png"));
}
const quote = (text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const command = () => (about.kind === "model"
  ? `lift3d export --model ${quote(about.name)} --seed ${state.seed} --trunc ${state.truncation} --out head.glb`
  : `lift3d export ${quote(about.name)} --sample ${stored.index} --out head.glb`);
function turnLight(dx, dy) { // on the screen, radians
  const turn = rotation(state.view), [x, y, z] = apply(turn, state.toLight);
  const yaw = Math.atan2(x, z) + dx, pitch = Math.max(-1.5, Math.min(1.5, Math.asin(Math.max(-1, Math.min(1, y))) + dy));
  state.toLight = applyInverse(turn, [Math.sin(yaw) * Math.cos(pitch), Math.sin(pitch), Math.cos(yaw) * Math.cos(pitch)]);
  lit();
}
function turnHead(dx, dy) {
  const wrap = (t) => t - 2 * Math.PI * Math.round(t / (2 * Math.PI));
  state.view[1] = wrap(state.view[1] + dx);
  state.view[0] = Math.max(-1.55, Math.min(1.55, state.view[0] + dy));
  moved();
}
function draggable(element, action, sign) {
  element.onpointerdown = (e) => { element.setPointerCapture(e.pointerId); element.focus(); };
  element.onpointermove = (e) => { if (e.buttons && element.hasPointerCapture(e.pointerId)) action(e.movementX * 2.4 / element.clientWidth, sign * e.movementY * 2.4 / element.clientWidth); };
  element.onkeydown = (e) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (step) { e.preventDefault(); action(step[0] * 0.08, sign * step[1] * 0.08); }
  };
}
function probe(e) {
  const size = maps?.size, box = $("picture").getBoundingClientRect();
  const x = Math.floor((e.clientX - box.left) / box.width * size), y = Math.floor((e.clientY - box.top) / box.height * size), i = y * size + x;
  if (!exact() || !(maps.paint[4 * i + 3] > 0)) { $("probe").textContent = ""; return; }
  const f = (v, d = 2) => [...v].map((t) => t.toFixed(d)).join(" ");
  $("probe").textContent = `albedo ${f([0, 1, 2].map((k) => maps.paint[4 * i + k] / 255))} · normal ${f(maps.shape.subarray(4 * i, 4 * i + 3))} · `
    + `depth ${f([maps.shape[4 * i + 3]], 3)} units · specular ${f([maps.gloss[2 * i]], 3)} · exponent ${f([maps.gloss[2 * i + 1]], 1)}`;
}
function tile(name, caption) {
  const canvas = make("canvas", { id: `tile-${name}` });
  $("tiles").append(make("figure", {}, make("div", { className: "stage" }, canvas), make("figcaption", { textContent: caption })));
}
async function filmstrip(first) {
  const { about: facts, arrays } = unpack(await ask("thumbnails", { first, count: 16, truncation: state.truncation }));
  const [, h, w] = arrays.images.shape, n = h * w * 3;
  $("strip").replaceChildren(...facts.seeds.map((seed, i) => {
    const image = arrays.images.subarray(i * n, (i + 1) * n);
    image.shape = [h, w, 3];
    const b = thumb(image, `Seed ${seed}; with Shift, the other one to mix with`);
    b.append(make("span", { textContent: seed }));
    b.dataset.seed = seed;
    b.onclick = (e) => { if (e.shiftKey) state.other = seed; else { state.seed = seed; state.mix = 0; } instanceChanged(true); };
    return b;
  }));
}
function instanceChanged(reset) {
  for (const b of $("strip").children) b.setAttribute("aria-pressed", Number(b.dataset.seed) === state.seed);
  for (const name of ["seed", "other"]) if (document.activeElement !== $(name)) $(name).value = state[name];
  lift(reset);
}
function field(name, label) {
  const input = make("input", { type: "number", id: name, min: 0, max: 2 ** 32 - 1, step: 1, value: state[name] });
  input.oninput = () => { if (input.validity.valid && input.value !== "") { state[name] = input.valueAsNumber; instanceChanged(name === "seed"); } };
  $("who").append(make("label", { className: "row" }, make("span", { textContent: label }), input));
}
const degrees = (x) => `${Math.round(x * 180 / Math.PI) || 0}°`;
function build() {
  $("name").textContent = about.name;
  MAPS_SHOWN.forEach((name, i) => {
    const input = make("input", { type: "radio", name: "shown", value: i, checked: i === 0 });
    input.onchange = () => { state.shown = i; touch("map"); };
    $("maps").append(make("label", {}, input, name));
  });
  const light = (k) => [() => state.strengths[k], (x) => { state.strengths[k] = x; lit(); }];
  slider($("light"), "ambient", "Ambient", 0, 1.2, 0.01, ...light(0));
  slider($("light"), "diffuse", "Diffuse", 0, 1.2, 0.01, ...light(1));
  slider($("light"), "specular", "Specular ×", 0, 20, 0.1, () => state.gains[0], (x) => { state.gains[0] = x; lit(); }, (x) => x.toFixed(1));
  slider($("light"), "exponent", "Exponent ×", -2, 2, 0.05, () => Math.log2(state.gains[1]), (x) => { state.gains[1] = 2 ** x; lit(); }, (x) => (2 ** x).toFixed(2));
  [["yaw", "Yaw", 1, 3.14], ["pitch", "Pitch", 0, 1.55], ["roll", "Roll", 2, 0.8]].forEach(([name, label, k, limit]) =>
    slider($("pose"), name, label, -limit, limit, 0.01, () => state.view[k], (x) => { state.view[k] = x; moved(); }, degrees));
  draggable($("picture"), turnLight, -1);
  draggable($("ball"), (x, y) => turnLight(x / 2, y / 2), -1);
  draggable($("mesh"), turnHead, 1);
  $("picture").addEventListener("pointermove", probe);
  $("mesh").addEventListener("wheel", (e) => { e.preventDefault(); state.zoom = Math.max(0.4, Math.min(8, state.zoom * Math.exp(-e.deltaY / 600))); touch("zoom"); }, { passive: false });
  button("Save PNG", "save-png", savePng);
  new ResizeObserver(() => touch()).observe($("mesh"));
}
async function startModel() {
  $("who").append(make("legend", { textContent: "Instance" }));
  field("seed", "Seed");
  slider($("who"), "truncation", "Truncation", 0, 1, 0.01, () => state.truncation, (x) => { state.truncation = x; lift(false); });
  field("other", "Mix with");
  slider($("who"), "mix", "Mixture", 0, 1, 0.01, () => state.mix, (x) => { state.mix = x; lift(false); });
  tile("projection", "Picture through the GAN");
  tile("gan", "The GAN's own image");
  button("Save GLB", "save-glb", async () => save(new Blob([await ask("glb", who())]), `${state.seed}.glb`));
  button("Copy command", "copy", () => navigator.clipboard.writeText(command()).then(() =>
    say((state.mix ? "A mixture has no command; copied that of its first part: " : "Copied: ") + command())));
  button("Volume render", "volume", () => latest("model", async (stale) => {
    for (const size of [32, 64, 128]) if (!stale() && size <= Math.max(32, about.size)) await shoot({ renderer: "neus", size });
  }));
  await filmstrip(0);
  instanceChanged(true);
}
async function startDataset() {
  const last = about.done.length - 1;
  $("who").append(make("legend", { textContent: `${about.done.filter(Boolean).length} of ${about.done.length} samples done` }));
  slider($("who"), "index", "Sample", 0, last, 1, () => state.index, (x) => {
    state.index = x;
    latest("dataset", async () => open(unpack(await ask("sample", { index: x }))));
  }, String);
  tile("colors", "As stored");
  tile("gan", "The GAN's own image");
  tile("colors_gan", "Stored, through the GAN");
  button("Cameras and lights", "glyphs", () => { state.glyphs = !state.glyphs; touch("glyphs"); });
  button("Save GLB", "save-glb", async () => save(new Blob([await ask("glb", { index: state.index })]), `${state.index}.glb`));
  button("Copy command", "copy", () => navigator.clipboard.writeText(command()).then(() => say("Copied: " + command())));
  button("Verify", "verify", async () => {
    say("Verifying the file …");
    const { about: r } = unpack(await ask("verify", {}));
    $("verify").textContent = r.problems ? `${r.problems} problems` : `Verified: ${r.samples} samples`;
    say(r.first.join("; "));
  });
  state.index = Math.max(0, about.done.indexOf(true));
  latest("dataset", async () => { const data = unpack(await ask("sample", { index: state.index })); if (!data.arrays.colors_gan) $("tile-colors_gan").closest("figure").remove(); open(data); });
}
async function startShare() {
  const packs = [...document.querySelectorAll("script[type='application/octet-stream']")];
  const items = await Promise.all(packs.map((p) => inflate(p.textContent)));
  button("Cameras and lights", "glyphs", () => { state.glyphs = !state.glyphs; touch("glyphs"); });
  const pick = (i) => { open(items[i]); [...$("strip").children].forEach((b, j) => b.setAttribute("aria-pressed", i === j)); };
  items.forEach((item, i) => { // thumbnails: the picture itself, drawn once
    open(item);
    paint();
    const b = thumb(null, `${about.noun} ${item.about.index}`), c = b.firstChild;
    c.width = c.height = 128;
    c.getContext("2d").drawImage($("picture"), 0, 0, 128, 128);
    b.append(make("span", { textContent: item.about.index }));
    b.onclick = () => pick(i);
    if (items.length > 1) $("strip").append(b);
  });
  pick(0);
  document.body.dataset.settled = String(++settled);
}
try {
  picture = new Pane($("picture"));
  surface = new Pane($("mesh"));
  build();
  ({ model: startModel, dataset: startDataset, share: startShare })[about.kind]().catch((error) => say(error.message));
} catch (error) { say(error.message); }
