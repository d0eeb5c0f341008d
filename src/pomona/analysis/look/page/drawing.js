// Dots and the choice of pictures, for a million rows: plain arrays, no canvas calls per row.

// Draws antialiased dots into the pixels of a canvas.
//   pixels: Uint8ClampedArray (4 * width * height), already filled with the paper's colour
//   rows: {x, y: Float32Array, label: Int32Array, shown, strong: Uint8Array}, the first n are drawn
//   view: {scale, left, top}, pixel = place * scale + left or top
//   colour: (label) => [red, green, blue]
//   faint: strength of the rows that are not strong, 0 to 1
export function drawDots(pixels, width, height, rows, n, view, radius, colour, faint) {
  const reach = Math.ceil(radius);
  const at = [], cover = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const covered = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (covered > 0.05) { at.push(4 * (dy * width + dx)); cover.push(covered); }
    }
  }
  const count = at.length, offsets = Int32Array.from(at), covers = Float32Array.from(cover);
  const { x, y, label, shown, strong } = rows;
  const colours = new Map();
  for (const pass of faint < 1 ? [0, 1] : [1]) {
    const strength = pass ? 0.85 : faint * 0.85;
    for (let i = 0; i < n; i++) {
      if (!shown[i] || (faint < 1 && strong[i] !== pass)) continue;
      const px = (x[i] * view.scale + view.left) | 0, py = (y[i] * view.scale + view.top) | 0;
      if (px < reach || py < reach || px >= width - reach || py >= height - reach) continue;
      let rgb = colours.get(label[i]);
      if (!rgb) { rgb = colour(label[i]); colours.set(label[i], rgb); }
      const [red, green, blue] = rgb;
      const middle = 4 * (py * width + px);
      for (let k = 0; k < count; k++) {
        const p = middle + offsets[k], a = covers[k] * strength;
        pixels[p] += (red - pixels[p]) * a;
        pixels[p + 1] += (green - pixels[p + 1]) * a;
        pixels[p + 2] += (blue - pixels[p + 2]) * a;
      }
    }
  }
}

// Chooses rows whose picture is drawn in place of a dot: no two overlap, and while the map moves the
// choice stays. Returns [rows, side of a picture in pixels].
//   onlyStrong: whether rows that are not strong stay dots
export function choosePictures(rows, n, view, width, height, onlyStrong) {
  const { x, y } = rows;
  const visible = (i) => rows.shown[i] && (!onlyStrong || rows.strong[i]);
  let inside = 0;
  const low = -view.left / view.scale, high = (width - view.left) / view.scale;
  const up = -view.top / view.scale, down = (height - view.top) / view.scale;
  for (let i = 0; i < n; i++)
    if (visible(i) && x[i] > low && x[i] < high && y[i] > up && y[i] < down) inside++;
  // Sparse rows have larger pictures.
  const room = Math.sqrt((width * height) / Math.max(1, 3 * inside));
  const side = Math.min(96, Math.max(40, Math.floor(room / 8) * 8));
  const cell = (side * 1.35) / view.scale;
  const first = Math.floor(low / cell), top = Math.floor(up / cell);
  const across = Math.floor(high / cell) - first + 1, along = Math.floor(down / cell) - top + 1;
  const best = new Int32Array(across * along).fill(-1);
  for (let i = 0; i < n; i++) {
    if (!visible(i) || x[i] <= low || x[i] >= high || y[i] <= up || y[i] >= down) continue;
    const at = (Math.floor(y[i] / cell) - top) * across + Math.floor(x[i] / cell) - first;
    if (best[at] < 0) best[at] = i;
  }
  const near = side / view.scale;
  const chosen = [];
  const order = [...best].filter((i) => i >= 0).sort((a, b) => a - b);
  for (const i of order) {
    const clear = (j) => Math.abs(x[i] - x[j]) > near || Math.abs(y[i] - y[j]) > near;
    if (chosen.every(clear)) chosen.push(i);
  }
  return [chosen, side];
}
