// lift3d/scene/shading.py, in GLSL: n normal, o towards the camera, both unit and in the world frame.
uniform vec3 strengths;  // k_a, k_d, k_n
uniform vec3 toLight;
uniform vec2 gains;  // of specular intensity and exponent
uniform int shown;
uniform vec3 range;  // near, far, largest specular intensity

vec2 shading(vec3 n, vec3 o, float s, float p) {
  float c = dot(n, toLight);
  float d = strengths.x + strengths.y * max(c, 0.0) + strengths.z * min(c, 0.0);
  float lobe = pow(max(dot(2.0 * c * n - toLight, o), 1e-4), p * gains.y);
  return vec2(d, c > 0.0 ? s * gains.x * strengths.y * lobe : 0.0);
}

vec3 ramp(float x) {  // lift3d/pictures.py: dark violet to light yellow
  vec3 c[9] = vec3[9](vec3(43, 12, 77), vec3(40, 47, 106), vec3(25, 79, 126), vec3(8, 110, 138), vec3(36, 140, 143),
    vec3(82, 167, 142), vec3(134, 191, 138), vec3(192, 212, 135), vec3(251, 228, 141));
  float at = clamp(x, 0.0, 1.0) * 8.0;
  int i = min(int(at), 7);
  return mix(c[i], c[i + 1], at - float(i)) / 255.0;
}

vec3 display(vec3 n, vec3 o, vec3 a, float s, float p, float depth) {
  vec2 f = shading(n, o, s, p);
  if (shown == 1) return a;
  if (shown == 2) return n * 0.5 + 0.5;
  if (shown == 3) return vec3(s / range.z);
  if (shown == 4) return ramp((p - 4.0) / 96.0);
  if (shown == 5) return ramp((range.y - depth) / max(range.y - range.x, 1e-6));
  if (shown == 6) return vec3(f.x);
  if (shown == 7) return vec3(f.y);
  return clamp(max(a * f.x + f.y, 0.0), 0.0, 1.0);
}
