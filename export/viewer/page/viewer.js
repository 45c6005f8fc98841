// The page: what is looked at, the controls, and (live) the questions to the server. Only the last question counts.
const about = JSON.parse(document.getElementById("about").textContent);
const $ = (id) => document.getElementById(id);
const MAPS_SHOWN = ["Shaded", "Albedo", "Normal", "Specular", "Shininess", "Depth", "Diffuse light", "Specular light"];
const DISTANCE = (tangent) => 1 / Math.sin(Math.atan(tangent));
const state = { view: [0, 0, 0, 0, 0, 0], tangent: Math.tan(Math.PI / 30), strengths: [0.5, 0.6, 0], toLight: [0, 0, 1], gains: [1, 1],
  shown: 0, zoom: 1, glyphs: about.kind === "dataset", seed: 0, other: 1, mix: 0, truncation: about.truncation ?? 1, index: 0 };
const COARSE = 48; // grid cells of the mesh that is shown first, and while something moves where drawing is slow
const ROUGH = 256, FINEST = 1280; // pixels of a canvas
const FILM = Math.min(16, about.instances || 16); // seeds in the strip; instances are few, and have nothing between them
const REST = 80, STILL = 200; // ms without input before the server is asked for the exact picture; before all is drawn in full
let picture, surface, mesh = null, maps = null, mapsView = null, stored = null, frame = 0, settled = 0;

// --- what is drawn
function setMesh(arrays, piece = "mesh") {
  mesh = arrays.vertices ?? null;
  if (!mesh) return;
  const n = mesh.length / 3, gloss = new Float32Array(2 * n), albedo = scaled(arrays.vertex_albedo, 1 / 255, 0);
  mesh.peak = 1e-6;
  for (let i = 0; i < n; i++) {
    gloss[2 * i] = arrays.reflection[i];
    gloss[2 * i + 1] = arrays.exponent[i];
    mesh.peak = Math.max(mesh.peak, arrays.reflection[i]);
  }
  for (const pane of [picture, surface]) pane.setPiece(piece, "TRIANGLES", arrays.faces, mesh, arrays.normals, albedo, gloss);
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
// A frame is drawn after a gesture, or an answer of the server. The counter tells the ms from the input to the last pixel of the
// picture that answers it; that of the surface follows. Where a frame takes long, frames are rough while something moves.
let queued = false, slow = false, moving = 0, still;
const waiting = {}; // what is not yet answered, since when
const inputTime = () => window.event?.timeStamp || performance.now();
function gesture(name) {
  waiting[name] ??= inputTime();
  moving = performance.now();
  touch();
}
function answer(name, start) { // to what was asked for at ``start``
  waiting[name] = start;
  touch();
}
function touch() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; paint(); });
}
function paint() {
  const l = look(), c = camera(), begun = performance.now(), rough = slow && begun - moving < STILL;
  const side = (id) => { const n = $(id).clientWidth * devicePixelRatio; return Math.max(64, Math.round(Math.min(n, rough ? ROUGH : FINEST))); };
  const piece = surface.pieces.quick && (rough || !surface.pieces.mesh) ? "mesh" : "quick"; // not this one
  if (maps || mesh) picture.draw(l, c, exact(), side("picture"), 1, ["glyphs", piece]);
  picture.finish();
  const lightOnly = rough && Object.keys(waiting).every((name) => name === "light");
  for (const [name, start] of Object.entries(waiting)) { report(name, performance.now() - start); delete waiting[name]; }
  if (!lightOnly) {
    surface.draw(l, c, false, side("mesh"), state.zoom * (state.glyphs ? 0.52 : 1), [piece, state.glyphs ? "" : "glyphs"]);
    surface.finish();
  }
  clearTimeout(still);
  if (rough) still = setTimeout(touch, STILL);
  else slow = performance.now() - begun > 50;
  const onScreen = apply(c.turn, state.toLight);
  $("ball").style.setProperty("--x", `${50 + 44 * onScreen[0]}%`);
  $("ball").style.setProperty("--y", `${50 - 44 * onScreen[1]}%`);
  $("ball").classList.toggle("behind", onScreen[2] < 0);
  for (const set of Object.values(sliders)) set();
  document.body.dataset.frame = String(++frame);
  document.body.dataset.exact = String(Boolean(exact()));
}
const times = {};
function report(name, ms) {
  times[name] = Math.round(ms);
  const exactly = (k) => (`${k}, exact` in times ? ` (exact ${times[`${k}, exact`]})` : "");
  $("counter").textContent = Object.keys(times).sort().filter((k) => !k.endsWith("exact")).map((k) => `${k} ${times[k]} ms${exactly(k)}`).join(" · ");
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
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
let resolution = 0; // of the finest mesh at hand
function lift(resetPose) { // a coarse surface at once, the rest when nothing else is asked for
  const start = inputTime();
  latest("model", async (stale) => {
    const { about: facts, arrays } = await meshOf(Math.min(COARSE, about.resolution), "quick");
    drawImage($("tile-gan"), arrays.image);
    if (resetPose) applyFacts(facts.camera, facts.light);
    answer("seed", start);
    await complete(stale, "seed, exact", start);
  });
}
async function complete(stale, name, start) {
  await pause(REST);
  if (!stale() && resolution < about.resolution) await meshOf(about.resolution, "mesh");
  if (stale()) return;
  await shoot();
  answer(name, start);
  latest("projection", (outdated) => project(outdated, start));
}
async function meshOf(asked, piece) {
  const found = unpack(await ask("instance", { ...who(), resolution: asked }));
  setMesh(found.arrays, piece);
  resolution = asked;
  if (piece === "quick") { // another instance, perhaps
    for (const pane of [picture, surface]) pane.remove("mesh");
    mapsView = null;
    touch();
  }
  return found;
}
async function shoot(extra = {}) { // the exact picture of the pose
  const view = [...state.view];
  const data = await ask("picture", { ...who(), view, resolution, size: about.size, ...extra });
  maps = toMaps(unpack(data).arrays);
  mapsView = view;
  picture.setMaps(maps);
  touch();
}
async function project(stale, start) {
  await pause(REST);
  if (stale()) return;
  const light = [...state.strengths, ...state.toLight];
  const { arrays } = unpack(await ask("projection", { ...who(), view: state.view, light, gains: state.gains }));
  drawImage($("tile-projection"), arrays.image);
  report("through the GAN", performance.now() - start);
}
function moved() { // the pose changed: drawn from the surface at once
  const start = inputTime();
  gesture("pose");
  if (about.kind === "model") latest("model", (stale) => complete(stale, "pose, exact", start));
  else chooseView(stored?.cameras.findIndex((c) => near(c.view, state.view)) ?? -1);
}
function lit() { // the light changed
  const start = inputTime();
  gesture("light");
  if (about.kind === "model") latest("projection", (stale) => project(stale, start));
}
function applyFacts(cam, light) {
  if (cam) { state.view = [...cam.view]; state.tangent = cam.tangent; }
  if (light) { state.strengths = light.slice(0, 3); state.toLight = light.slice(3); }
}

// --- samples of a dataset, and of a share page
function chooseView(number) {
  mapsView = null;
  touch();
  if (!stored?.arrays[`mask/${number}`]) return; // drawn from the surface
  maps = toMaps(stored.arrays, `/${number}`);
  mapsView = [...stored.cameras[number].view];
  picture.setMaps(maps);
}
function choose(view, light) {
  applyFacts(stored.cameras[view], stored.lights[light]);
  chooseView(view);
  [...$("grid").children].forEach((b, i) => b.setAttribute("aria-pressed", i === view * stored.lights.length + light));
  for (const name of ["colors", "colors_gan"]) {
    const all = stored.arrays[name], tile = $(`tile-${name}`);
    if (all && tile) drawImage(tile, cell(all, view, light));
  }
}
function cell(all, view, light) {
  const [, l, h, w] = all.shape, n = h * w * 3, part = all.subarray((view * l + light) * n, (view * l + light + 1) * n);
  part.shape = [h, w, 3];
  return part;
}
function openSample({ about: facts, arrays }) {
  stored = { ...facts, arrays };
  setMesh(arrays);
  setGlyphs(stored.cameras, stored.lights);
  $("grid").replaceChildren();
  $("grid").style.gridTemplateRows = `repeat(${stored.lights.length}, auto)`; // a column per view
  if (stored.cameras.length * stored.lights.length > 1) stored.cameras.forEach((_, v) => stored.lights.forEach((_, l) => {
    const button = arrays.colors ? thumb(cell(arrays.colors, v, l), `View ${v}, light ${l}`) : (choose(v, l), drawn(`View ${v}, light ${l}`));
    button.onclick = () => choose(v, l);
    $("grid").append(button);
  }));
  if (arrays.image && $("tile-gan")) drawImage($("tile-gan"), arrays.image);
  const words = [`seed ${facts.seed ?? facts.index}`, facts.split && `split ${facts.split}`].filter(Boolean);
  const whole = stored.cameras.filter((_, v) => arrays[`mask/${v}`]).length, all = stored.cameras.length;
  $("state").textContent = about.kind === "dataset" ? `sample ${facts.index} · ${words.join(" · ")} · done`
    : whole < all ? `maps of ${whole} of ${all} views; the others are drawn from the surface` : "";
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
function drawn(label) { // a thumb of the picture as it is now
  const button = thumb(null, label), canvas = button.firstChild;
  canvas.width = canvas.height = 128;
  picture.draw({ ...look(), shown: 0 }, camera(), exact(), 128, 1, ["glyphs"]);
  canvas.getContext("2d").drawImage($("picture"), 0, 0);
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
function glyphButton() {
  button("Show cameras", "glyphs", () => { state.glyphs = !state.glyphs; $("glyphs").ariaPressed = state.glyphs; touch(); });
  Object.assign($("glyphs"), { ariaPressed: state.glyphs, title: "Cameras and lights, beside the surface" });
}
function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function savePng() { // over the background of the model's renders
  picture.draw(look(), camera(), exact(), exact() ? maps.size : 512, 1, ["glyphs"]); // a map's pixels as they are
  const from = $("picture"), to = make("canvas", { width: from.width, height: from.height }), c = to.getContext("2d");
  const g = Math.round(255 * about.background);
  c.fillStyle = `rgb(${g},${g},${g})`;
  c.fillRect(0, 0, to.width, to.height);
  c.drawImage(from, 0, 0);
  to.toBlob((blob) => save(blob, "lift3d.png"));
  touch();
}
const quote = (text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
function command() { // lines for a shell: of a model the picture, pose and light included, and the mesh
  if (about.kind === "dataset") return `lift3d export ${quote(about.file)} --sample ${stored.index} --out head.glb`;
  const of = about.name.split(", ").map((name) => `--model ${quote(name)}`).join(" "), trunc = `--trunc ${state.truncation}`;
  const [pitch, yaw, roll] = state.view.slice(0, 3).map((t) => +(t * 180 / Math.PI).toFixed(3)), [ambient, diffuse, negative] = state.strengths;
  const seen = JSON.stringify({ views: [{ yaw, pitch, roll }], lights: [{ direction: state.toLight, ambient, diffuse, negative }] });
  return [`echo ${quote(seen)} > seen.json`,
    `lift3d sample ${of} --seeds ${state.seed} ${trunc} --views file:seen.json --lights file:seen.json --size ${2 ** Math.ceil(Math.log2(about.size))} --mesh-resolution ${about.resolution} --no-card --out seen.h5 --contact-sheet seen.png`,
    `lift3d export ${of} --seed ${state.seed} ${trunc} --resolution ${about.resolution} --out head.glb`].join("\n");
}
const copy = () => navigator.clipboard.writeText(command()).then(() => say(state.mix
  ? "A mixture has no command; copied that of its first part" : near(state.gains, [1, 1]) ? `Copied: ${command().split("\n").map((line) => line.slice(0, 60)).join(" … ")}`
  : "Copied; the factors of specular intensity and exponent are the page's own and left out"));
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
  element.onpointerdown = (e) => { element.setPointerCapture(e.pointerId); element.focus({ preventScroll: true, focusVisible: false }); };
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
  const { about: facts, arrays } = unpack(await ask("thumbnails", { first, count: FILM, truncation: state.truncation }));
  const [, h, w] = arrays.images.shape, n = h * w * 3;
  const more = (text, label, next) => Object.assign(make("button", { type: "button", textContent: text, ariaLabel: label, className: "more" }),
    { onclick: () => filmstrip(next).catch((error) => say(error.message)), disabled: next < 0 || next >= 2 ** 32 });
  const thumbs = facts.seeds.map((seed, i) => {
    const image = arrays.images.subarray(i * n, (i + 1) * n);
    image.shape = [h, w, 3];
    const b = thumb(image, `Seed ${seed}; with Shift, the other one to mix with`);
    b.append(make("span", { textContent: seed }));
    b.dataset.seed = seed;
    b.onclick = (e) => { if (e.shiftKey) state.other = seed; else { state.seed = seed; state.mix = 0; } instanceChanged(!e.shiftKey); };
    return b;
  });
  if (!about.instances || about.instances > FILM) {
    thumbs.unshift(more("‹", "Earlier seeds", first - FILM));
    thumbs.push(more("›", "Later seeds", first + FILM));
  }
  $("strip").replaceChildren(...thumbs);
  press();
}
function press() {
  for (const b of $("strip").children) b.setAttribute("aria-pressed", Number(b.dataset.seed) === state.seed);
}
function instanceChanged(reset) {
  press();
  for (const name of ["seed", "other"]) if ($(name) && document.activeElement !== $(name)) $(name).value = state[name];
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
    input.onchange = () => { state.shown = i; gesture("map"); };
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
  $("mesh").addEventListener("wheel", (e) => { e.preventDefault(); state.zoom = Math.max(0.4, Math.min(8, state.zoom * Math.exp(-e.deltaY / 600))); gesture("zoom"); }, { passive: false });
  button("Save PNG", "save-png", savePng);
  new ResizeObserver(() => touch()).observe($("mesh"));
}
async function startModel() {
  $("who").append(make("legend", { textContent: "Instance" }));
  field("seed", "Seed");
  if (!about.instances) startPopulation();
  tile("projection", "Picture through the GAN");
  tile("gan", about.instances ? "The image itself" : "The GAN's own image");
  button("Save GLB", "save-glb", async () => save(new Blob([await ask("glb", who())]), `${state.seed}.glb`));
  button("Copy command", "copy", copy);
  button("Volume render", "volume", () => latest("model", async (stale) => {
    for (const size of [32, 64, 128]) if (!stale() && size <= Math.max(32, about.size)) await shoot({ renderer: "neus", size });
  }));
  await filmstrip(0);
  instanceChanged(true);
}
function startPopulation() {
  slider($("who"), "truncation", "Truncation", 0, 1, 0.01, () => state.truncation, (x) => { state.truncation = x; lift(false); });
  field("other", "Mix with");
  slider($("who"), "mix", "Mixture", 0, 1, 0.01, () => state.mix, (x) => { state.mix = x; lift(false); });
}
async function startDataset() {
  const last = about.done.length - 1;
  $("who").append(make("legend", { textContent: `${about.done.filter(Boolean).length} of ${about.done.length} samples done` }));
  slider($("who"), "index", "Sample", 0, last, 1, () => state.index, (x) => {
    state.index = x;
    latest("dataset", async () => openSample(unpack(await ask("sample", { index: x }))));
  }, String);
  tile("colors", "As stored");
  tile("gan", "The GAN's own image");
  tile("colors_gan", "Stored, through the GAN");
  button("Save GLB", "save-glb", async () => save(new Blob([await ask("glb", { index: state.index })]), `${state.index}.glb`));
  button("Copy command", "copy", copy);
  glyphButton();
  button("Verify", "verify", async () => {
    say("Verifying the file …");
    const { about: r } = unpack(await ask("verify", {}));
    $("verify").textContent = r.problems ? `${r.problems} problems` : `Verified: ${r.samples} samples`;
    say(r.first.join("; "));
  });
  state.index = Math.max(0, about.done.indexOf(true));
  latest("dataset", async () => { const data = unpack(await ask("sample", { index: state.index })); if (!data.arrays.colors_gan) $("tile-colors_gan").closest("figure").remove(); openSample(data); });
}
async function startShare() {
  const packs = [...document.querySelectorAll("script[type='application/octet-stream']")];
  const items = await Promise.all(packs.map((p) => inflate(p.textContent)));
  glyphButton();
  $("side").append($("grid"));
  const pick = (i) => { openSample(items[i]); [...$("strip").children].forEach((b, j) => b.setAttribute("aria-pressed", i === j)); };
  if (items.length > 1) items.forEach((item, i) => {
    stored = { ...item.about, arrays: item.arrays };
    setMesh(item.arrays);
    choose(0, 0);
    const b = drawn(`${about.noun} ${item.about.index}`);
    b.append(make("span", { textContent: item.about.index }));
    b.onclick = () => pick(i);
    $("strip").append(b);
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
