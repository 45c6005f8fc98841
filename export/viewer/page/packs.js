// Packs (pack.py): numbers and arrays of them; maps as the textures that a pane takes.
const TYPES = { u1: Uint8Array, i2: Int16Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, e] of Object.entries(header.arrays)) {
    const raw = new TYPES[e.dtype](buffer, 4 + length + e.start, e.shape.reduce((a, b) => a * b, 1));
    arrays[name] = e.scale === 1 && e.low === 0 ? raw : scaled(raw, e.scale, e.low);
    arrays[name].shape = e.shape;
  }
  return { about: header.about, arrays };
}

function scaled(raw, scale, low) {
  const values = new Float32Array(raw.length);
  for (let i = 0; i < raw.length; i++) values[i] = raw[i] * scale + low;
  return values;
}

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return unpack(await new Response(stream).arrayBuffer());
}

function toMaps(arrays, suffix = "") { // what no pixel of the object has stays 0
  const [mask, albedo, normals, specular, shininess, depth] =
    ["mask", "albedo", "normals", "specular", "shininess", "depth"].map((name) => arrays[name + suffix]);
  const size = mask.shape[0], n = size * size, range = [1e9, 0, 1e-6];
  const paint = new Uint8Array(4 * n), shape = new Float32Array(4 * n), gloss = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) {
    if (!mask[i]) continue;
    for (let k = 0; k < 3; k++) { paint[4 * i + k] = albedo[3 * i + k]; shape[4 * i + k] = normals[3 * i + k]; }
    paint[4 * i + 3] = 255;
    shape[4 * i + 3] = depth[i];
    gloss[2 * i] = specular[i];
    gloss[2 * i + 1] = shininess[i];
    range[0] = Math.min(range[0], depth[i]);
    range[1] = Math.max(range[1], depth[i]);
    range[2] = Math.max(range[2], specular[i]);
  }
  return { size, range, paint, shape, gloss };
}
