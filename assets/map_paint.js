// How the map is painted: the second half of map.js's module, joined to it in pages/_components.py.

// --- geometry: map units 0..1 (y upwards) to pixels of the canvas -------------------------------------------------------

const MARGIN = 0.94, STRETCH = 1.6
const size = (map) => [map.canvas.clientWidth || 1, map.canvas.clientHeight || 1]
function frame(map, view = map.view) {
  // The points fill the canvas both ways, as directions mean nothing here; one axis is stretched STRETCH times at most.
  const [w, h] = size(map), across = MARGIN * w / map.span[0], up = MARGIN * h / map.span[1]
  const sx = Math.min(across, STRETCH * up) * view.zoom, sy = Math.min(up, STRETCH * across) * view.zoom
  return { sx, sy, left: w / 2 - view.x * sx, top: h / 2 - (1 - view.y) * sy }
}
const toUnit = (map, x, y) => [(x - map.header.origin[0]) / map.header.side, (y - map.header.origin[1]) / map.header.side]
const toMap = (map, u, v) => [map.header.origin[0] + u * map.header.side, map.header.origin[1] + v * map.header.side]
const at = (map, e) => { const box = map.canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top] }
function unitAt(map, [px, py]) { const f = frame(map); return [(px - f.left) / f.sx, 1 - (py - f.top) / f.sy] }
const place = (map, f, i) => [f.left + map.x[i] / FULL * f.sx, f.top + (1 - map.y[i] / FULL) * f.sy]

// --- drawing: points into a buffer, then the buffer and what moves onto the screen ------------------------------------------

function radius(map) {
  // Selected points cover a quarter of the canvas at most, and no point outgrows the eye or shrinks below it.
  const [w, h] = size(map), usual = map.n < 3000 ? 4.2 : map.n < CROWD ? 3.2 : 2.4
  const fits = Math.sqrt(0.25 * w * h / Math.PI / Math.max(1, map.large))
  return Math.round(4 * Math.max(1.25, Math.min(usual, fits)) * Math.min(3, Math.sqrt(map.view.zoom))) / 4
}

function sprite(map, shape, colour, r, ratio) {
  const name = `${shape}${colour}${r.toFixed(2)}${ratio}`
  const known = map.sprites.get(name)
  if (known) return known
  if (map.sprites.size > 600) map.sprites.clear()
  const half = Math.ceil(r * ratio) + 2
  const image = document.createElement("canvas")
  image.width = image.height = 2 * half
  const g = image.getContext("2d")
  g.translate(half, half)
  g.scale(ratio, ratio)
  g.fillStyle = colour
  g.beginPath()
  if (shape === "target") { g.moveTo(0, -r); g.lineTo(r, 0); g.lineTo(0, r); g.lineTo(-r, 0); g.closePath() }
  else if (shape === "existing") { g.moveTo(0, -r); g.lineTo(r, r * 0.8); g.lineTo(-r, r * 0.8); g.closePath() }
  else if (shape === "pinned") {
    for (let c = 0; c < 10; c++) g.lineTo(Math.sin(c * Math.PI / 5) * (c % 2 ? r / 2 : r), -Math.cos(c * Math.PI / 5) * (c % 2 ? r / 2 : r))
    g.closePath()
  } else if (shape === "banned") {
    const [a, b] = [r * 0.85, r * 0.3]  // a cross as one outline, so that it gets a border like the others
    for (const [x, y] of [[0, -b], [a - b, -a], [a, b - a], [b, 0], [a, a - b], [a - b, a], [0, b], [b - a, a], [-a, a - b], [-b, 0], [-a, b - a], [b - a, -a]]) g.lineTo(x, y)
    g.closePath()
  } else g.arc(0, 0, r, 0, 2 * Math.PI)
  if (shape === "rejected") g.globalAlpha = 0.8
  g.fill()
  if (shape !== "rejected" && (shape !== "selected" || map.n < CROWD)) {  // in a crowd, outlines are all one sees
    g.lineWidth = shape === "selected" ? 0.6 : 1
    g.strokeStyle = shape === "selected" ? map.paper : map.ink
    g.stroke()
  }
  map.sprites.set(name, image)
  return image
}

function colours(map) {
  const style = getComputedStyle(map.canvas)
  return [style.getPropertyValue("--ink"), style.getPropertyValue("--paper")]
}
function themed(map) { const [ink, paper] = colours(map); return ink !== map.ink || paper !== map.paper }

// Where the positions of a layer's arrays stand: of all rows, or of the part that is drawn one by one.
const rowAt = (map, p) => (map.layer && map.layer.rows ? map.layer.rows[p] : p)
function positionOf(map, row) {
  const rows = map.layer && map.layer.rows
  if (!rows) return row < map.n ? row : -1
  let low = 0, high = rows.length
  while (low < high) { const mid = (low + high) >> 1; if (rows[mid] < row) low = mid + 1; else high = mid }
  return rows[low] === row ? low : -1
}

function cloud(map, f, w, h) {
  // All rows as a density, on a grid of 2 x 2 pixels; the logarithm keeps single rows visible beside the crowds.
  const [columns, lines] = [Math.ceil(w / 2), Math.ceil(h / 2)]
  const counts = new Uint32Array(columns * lines)
  const sx = f.sx / FULL / 2, sy = f.sy / FULL / 2, left = f.left / 2, top = (f.top + f.sy) / 2
  for (let i = 0; i < map.n; i++) {
    const column = (left + map.x[i] * sx) | 0, line = (top - map.y[i] * sy) | 0
    if (column >= 0 && line >= 0 && column < columns && line < lines) counts[line * columns + column]++
  }
  let most = 1
  for (const count of counts) if (count > most) most = count
  const grey = map.header.grey, image = new ImageData(columns, lines), share = 205 / Math.log1p(most)
  for (let c = 0; c < counts.length; c++) {
    if (!counts[c]) continue
    image.data[4 * c] = grey[0]; image.data[4 * c + 1] = grey[1]; image.data[4 * c + 2] = grey[2]
    image.data[4 * c + 3] = 50 + Math.log1p(counts[c]) * share
  }
  map.cloud.width = columns
  map.cloud.height = lines
  map.cloud.getContext("2d").putImageData(image, 0, 0)
  return map.cloud
}

function dust(map, f, w, h, ratio, small) {
  // Rejected rows of a crowd as squares written straight into an image: drawing each one takes ten times as long.
  const { codes, palette } = map.layer, own = ofMembership(map.layer)
  const [columns, lines] = [Math.round(w * ratio), Math.round(h * ratio)], side = Math.max(1, Math.round(1.8 * small * ratio))
  const colours = palette.map((hex) => parseInt(hex.slice(5, 7) + hex.slice(3, 5) + hex.slice(1, 3), 16))
  const image = new ImageData(columns, lines), cells = new Uint32Array(image.data.buffer)
  for (let p = 0; p < codes.length; p++) {
    if (codes[p] & SELECTED) continue
    const [px, py] = place(map, f, rowAt(map, p)), left = Math.round(px * ratio - side / 2), top = Math.round(py * ratio - side / 2)
    if (left < 0 || top < 0 || left + side > columns || top + side > lines) continue
    const colour = colours[own ? 0 : codes[p]]
    for (let y = top; y < top + side; y++) {
      for (let c = y * columns + left, end = c + side; c < end; c++) {
        const before = cells[c] >>> 24
        cells[c] = (Math.min(255, before ? before + 40 : 140) << 24) | colour  // a crowd is darker
      }
    }
  }
  map.cloud.width = columns
  map.cloud.height = lines
  map.cloud.getContext("2d").putImageData(image, 0, 0)
  return map.cloud
}

const ofMembership = (layer) => layer.title === "membership" && !layer.groups.length

function draw(map) {
  if (!map.header) return
  const start = performance.now()
  const [w, h] = size(map), ratio = window.devicePixelRatio || 1
  if (themed(map)) { [map.ink, map.paper] = colours(map); map.sprites.clear() }
  map.buffer.width = map.canvas.width = Math.round(w * ratio)
  map.buffer.height = map.canvas.height = Math.round(h * ratio)
  const g = map.buffer.getContext("2d"), f = frame(map), r = radius(map), small = Math.max(0.9, r * 0.6)
  const put = (i, shape, colour, pr) => {
    const [px, py] = place(map, f, i)
    if (px < -9 || py < -9 || px > w + 9 || py > h + 9) return
    const image = sprite(map, shape, colour, pr, ratio)
    g.drawImage(image, Math.round(px * ratio - image.width / 2), Math.round(py * ratio - image.height / 2))
  }
  if (map.dense) g.drawImage(cloud(map, f, w, h), 0, 0, Math.ceil(w / 2) * 2 * ratio, Math.ceil(h / 2) * 2 * ratio)
  if (map.layer) {
    const { codes, palette } = map.layer, own = ofMembership(map.layer)
    if (codes.length >= CROWD) g.drawImage(dust(map, f, w, h, ratio, small), 0, 0)
    else for (let p = 0; p < codes.length; p++) if (!(codes[p] & SELECTED)) put(rowAt(map, p), "rejected", own ? palette[0] : palette[codes[p]], small)
    for (let p = 0; p < codes.length; p++) if (codes[p] & SELECTED) put(rowAt(map, p), "selected", own ? palette[1] : palette[codes[p] & 127], r)
  }
  let from = map.n
  for (const kind of ["target", "existing"]) {
    const count = map.header.counts[kind] || 0
    for (let i = from; i < from + count; i++) put(i, kind, map.header.marks[kind], r * 1.35)
    from += count
  }
  for (const kind of map.layer ? ["pinned", "banned"] : [])
    for (const row of map.layer[kind]) if (row < map.n) put(row, kind, map.layer.marks[kind], Math.max(6, r * 1.7))
  map.drawn = { ...map.view }
  map.cost = performance.now() - start
  paint(map)
}

function paint(map) {
  if (!map.drawn) return
  const ratio = window.devicePixelRatio || 1, g = map.canvas.getContext("2d")
  const now = frame(map), then = frame(map, map.drawn), grow = now.sx / then.sx
  g.setTransform(1, 0, 0, 1, 0, 0)
  g.clearRect(0, 0, map.canvas.width, map.canvas.height)
  g.drawImage(map.buffer, (now.left - then.left * grow) * ratio, (now.top - then.top * grow) * ratio, map.buffer.width * grow, map.buffer.height * grow)
  g.scale(ratio, ratio)
  const line = map.lasso || (map.outline && map.outline.map(([u, v]) => [now.left + u * now.sx, now.top + (1 - v) * now.sy]))
  if (line && line.length > 1) {
    g.beginPath()
    line.forEach(([px, py], i) => (i ? g.lineTo(px, py) : g.moveTo(px, py)))
    g.closePath()
    g.globalAlpha = 0.12; g.fillStyle = map.ink; g.fill()
    g.globalAlpha = 1; g.strokeStyle = map.ink; g.lineWidth = 1.5; g.setLineDash([5, 4]); g.stroke(); g.setLineDash([])
  }
  const focus = map.layer ? map.layer.focus : null
  if (focus !== null && focus >= 0 && focus < map.n) {
    const [px, py] = place(map, now, focus)
    for (const [colour, width] of [[map.paper, 5], [map.ink, 2.5]]) {
      g.beginPath(); g.arc(px, py, radius(map) + 5, 0, 2 * Math.PI)
      g.strokeStyle = colour; g.lineWidth = width; g.stroke()
    }
  }
  if (map.canvas.matches(":focus-visible")) {  // where Enter will look
    const [w, h] = size(map)
    g.beginPath()
    for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) { g.moveTo(w / 2 + 5 * x, h / 2 + 5 * y); g.lineTo(w / 2 + 12 * x, h / 2 + 12 * y) }
    g.strokeStyle = map.ink; g.lineWidth = 1.5; g.stroke()
  }
}

function refresh(map) {
  // A slow map moves its last picture at once and draws anew when the hand rests.
  clearTimeout(map.later)
  if (map.cost < 25) requestAnimationFrame(() => draw(map))
  else { requestAnimationFrame(() => paint(map)); map.later = setTimeout(() => draw(map), 90) }
}
