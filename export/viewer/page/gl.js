// Drawing: a pane is a canvas that shows the maps of a view, or a mesh, with the formula of shade.glsl.
"use strict";

const HEAD = "#version 300 es\nprecision highp float;\nprecision highp sampler2D;\n";
const SHADE = document.getElementById("shade").textContent;
const QUAD = `${HEAD}out vec2 at; void main() { vec2 p = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0;
  at = vec2(p.x, 1.0 - p.y); gl_Position = vec4(p * 2.0 - 1.0, 0, 1); }`;
const MAPS = `${HEAD}${SHADE}uniform sampler2D paint, shape, gloss; uniform mat3 turn; uniform float tangent;
  uniform float reach; in vec2 at; out vec4 color;
  void main() { // between pixels of the maps: means over those that see the object, and an outline without steps
  vec4 a = texture(paint, at), n = texture(shape, at) / a.a; vec2 g = texture(gloss, at).xy / a.a;
  float cover = reach > 0.0 ? 0.0 : a.a;
  if (reach > 0.0) for (int i = 0; i < 9; i++) cover += texture(paint, at + reach * vec2(i % 3 - 1, i / 3 - 1)).a / 9.0;
  cover = a.a > 0.0 ? smoothstep(0.35, 0.65, cover) : 0.0;
  if (cover == 0.0) { color = vec4(0); return; }
  vec3 o = normalize(vec3(-(at.x * 2.0 - 1.0) * tangent, (at.y * 2.0 - 1.0) * tangent, 1.0) * turn);
  color = vec4(display(normalize(n.xyz), o, a.rgb / a.a, g.x, g.y, n.w) * cover, cover); }`;
const VERTEX = `${HEAD}layout(location=0) in vec3 vertex; layout(location=1) in vec3 normal; layout(location=2) in vec3 albedo;
  layout(location=3) in vec2 gloss; uniform mat3 turn; uniform vec3 move; uniform float tangent, zoom;
  out vec3 n, a, o; out vec2 g; out float depth;
  void main() { vec3 p = turn * vertex + move; n = normal; a = albedo; g = gloss; o = -p * turn; depth = -p.z;
  float f = 30.0, e = 2.0;
  gl_Position = vec4(p.xy / tangent * zoom, (f + e) / (f - e) * depth - 2.0 * f * e / (f - e), depth); }`;
const MESH = `${HEAD}${SHADE}in vec3 n, a, o; in vec2 g; in float depth; out vec4 color;
  void main() { color = vec4(g.y < 0.0 ? a : display(normalize(n), normalize(o), a, g.x, g.y, depth), 1); }`;

function rotation([pitch, yaw, roll]) { // Rx Ry Rz, rows
  const [cx, sx, cy, sy, cz, sz] = [pitch, yaw, roll].flatMap((t) => [Math.cos(t), Math.sin(t)]);
  return [cy * cz, -cy * sz, sy, sx * sy * cz + cx * sz, -sx * sy * sz + cx * cz, -sx * cy,
    -cx * sy * cz + sx * sz, cx * sy * sz + sx * cz, cx * cy];
}
const apply = (r, v) => [0, 3, 6].map((i) => r[i] * v[0] + r[i + 1] * v[1] + r[i + 2] * v[2]);
const applyInverse = (r, v) => [0, 1, 2].map((i) => r[i] * v[0] + r[i + 3] * v[1] + r[i + 6] * v[2]);

class Pane {
  constructor(canvas) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: true });
    if (!gl) throw new Error("This page needs WebGL 2: use a recent browser, or allow hardware acceleration.");
    this.gl = gl;
    this.maps = this.program(QUAD, MAPS);
    this.surface = this.program(VERTEX, MESH);
    this.textures = [0, 1, 2].map(() => gl.createTexture());
    this.pieces = {};
    this.smooth = gl.getExtension("OES_texture_float_linear") ? gl.LINEAR : gl.NEAREST;
  }

  program(...sources) {
    const gl = this.gl, program = gl.createProgram();
    sources.forEach((source, i) => {
      const shader = gl.createShader(i ? gl.FRAGMENT_SHADER : gl.VERTEX_SHADER);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    });
    gl.linkProgram(program);
    const at = new Proxy({}, { get: (o, k) => (o[k] ??= gl.getUniformLocation(program, k)) });
    return { program, at };
  }

  setMaps(maps) {
    const gl = this.gl, n = this.mapsSide = maps.size;
    const kinds = [[gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, maps.paint], [gl.RGBA32F, gl.RGBA, gl.FLOAT, maps.shape],
      [gl.RG32F, gl.RG, gl.FLOAT, maps.gloss]];
    kinds.forEach(([inner, format, type, data], i) => {
      gl.activeTexture(gl.TEXTURE0 + i);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[i]);
      gl.texImage2D(gl.TEXTURE_2D, 0, inner, n, n, 0, format, type, data);
      for (const [key, value] of [[gl.TEXTURE_MIN_FILTER, this.smooth], [gl.TEXTURE_MAG_FILTER, this.smooth],
        [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]]) gl.texParameteri(gl.TEXTURE_2D, key, value);
    });
  }

  setPiece(name, mode, faces, ...columns) { // columns: position, normal, albedo, gloss
    const gl = this.gl;
    this.remove(name);
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffers = columns.map((column, i) => {
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, column, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(i);
      gl.vertexAttribPointer(i, i === 3 ? 2 : 3, gl.FLOAT, false, 0, 0);
      return buffer;
    });
    const index = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, index);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Uint32Array.from(faces), gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    this.pieces[name] = { array, buffers: [...buffers, index], count: faces.length, mode: gl[mode] };
  }

  finish() { // waits until what was drawn is there; gl.finish() does not
    this.gl.readPixels(0, 0, 1, 1, this.gl.RGBA, this.gl.UNSIGNED_BYTE, this.one ??= new Uint8Array(4));
  }

  remove(name) {
    const old = this.pieces[name];
    if (!old) return;
    this.gl.deleteVertexArray(old.array);
    old.buffers.forEach((buffer) => this.gl.deleteBuffer(buffer));
    delete this.pieces[name];
  }

  draw(look, camera, useMaps, size, zoom = 1, hidden = []) {
    const gl = this.gl, { program, at } = useMaps ? this.maps : this.surface;
    if (this.canvas.width !== size) this.canvas.width = this.canvas.height = size;
    gl.viewport(0, 0, size, size);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.useProgram(program);
    gl.uniform3fv(at.strengths, look.strengths);
    gl.uniform3fv(at.toLight, look.toLight);
    gl.uniform2fv(at.gains, look.gains);
    gl.uniform3fv(at.range, look.range);
    gl.uniform1i(at.shown, look.shown);
    gl.uniformMatrix3fv(at.turn, true, camera.turn);
    gl.uniform1f(at.tangent, camera.tangent);
    if (useMaps) {
      gl.disable(gl.DEPTH_TEST);
      ["paint", "shape", "gloss"].forEach((name, i) => gl.uniform1i(at[name], i));
      gl.uniform1f(at.reach, 0.7 * Math.max(0, 1 - this.mapsSide / size) / this.mapsSide);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      return;
    }
    gl.enable(gl.DEPTH_TEST);
    gl.uniform3fv(at.move, camera.move);
    gl.uniform1f(at.zoom, zoom);
    for (const [name, piece] of Object.entries(this.pieces)) {
      if (hidden.includes(name)) continue;
      gl.bindVertexArray(piece.array);
      gl.drawElements(piece.mode, piece.count, gl.UNSIGNED_INT, 0);
    }
    gl.bindVertexArray(null);
  }
}
