// The map: a canvas that gets its geometry once and then one byte per row (see delift_core/figures/points.py for both
// messages).  It answers with the row that was clicked, and with the outline of a lasso in map coordinates.
// Two component instances share this module: the one with the canvas, and one that only carries the layer.

const maps = new Map()    // key -> map on screen
const layers = new Map()  // key -> newest layer, which may arrive before the canvas
const KINDS = ["pool", "target", "existing"]
const FULL = 65535, SELECTED = 128

function unpack(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  const length = view.getUint32(0, true)
  const header = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + length)))
  return { header, body: data.slice(4 + length) }  // a copy, so that typed arrays over it are aligned
}

export default function (component) {
  const { data, parentElement } = component
  if (!data) return
  const { header, body } = unpack(data)
  if (header.what === "layer") {
    layers.set(header.key, { ...header, codes: body })
    const map = maps.get(header.key)
    if (map) show(map)
    return
  }
  let map = parentElement.deliftMap
  if (!map) map = parentElement.deliftMap = mount(parentElement)
  map.component = component
  const fresh = map.version !== header.version || map.key !== header.key
  if (fresh) load(map, header, body)
  maps.set(header.key, map)
  map.key = header.key
  // The same geometry comes again with every rerun of the page, and also when the theme changes.
  if (fresh || themed(map)) show(map)
  return () => { map.observer.disconnect(); if (maps.get(map.key) === map) maps.delete(map.key) }
}

function load(map, header, body) {
  const total = KINDS.reduce((sum, kind) => sum + (header.counts[kind] || 0), 0)
  const n = header.counts.pool
  map.version = header.version
  map.header = header
  map.n = n
  map.total = total
  map.x = new Uint16Array(body.buffer, 0, total)
  map.y = new Uint16Array(body.buffer, 2 * total, total)
  map.rank = new Int32Array(body.buffer, 4 * total, n)
  map.layer = map.drawn = null
  map.names = header.ids ? new TextDecoder().decode(body.subarray(4 * total + 4 * n)).split("\n") : null
  map.view = { x: 0.5, y: 0.5, zoom: 1 }
}

function mount(root) {
  const find = (selector) => root.querySelector(selector)
  const map = {
    root, canvas: find("canvas"), tip: find(".tip"), legend: find(".legend"), buffer: document.createElement("canvas"),
    sprites: new Map(), lasso: null, drag: null, mode: "pan", drawn: null, cost: 0,
  }
  const canvas = map.canvas
  canvas.onpointerdown = (e) => press(map, e)
  canvas.onpointermove = (e) => move(map, e)
  canvas.onpointerup = (e) => release(map, e)
  canvas.onpointercancel = () => { map.drag = map.lasso = null; paint(map) }
  canvas.onpointerleave = () => { map.tip.hidden = true }
  canvas.onkeydown = (e) => key(map, e)
  canvas.addEventListener("wheel", (e) => {
    // Only a focused map takes the wheel, so that the page can be scrolled across it.
    if (root.activeElement !== canvas && !e.ctrlKey) return
    e.preventDefault()
    zoom(map, Math.exp(-e.deltaY * 0.0015), at(map, e))
  }, { passive: false })
  for (const button of root.querySelectorAll("button")) button.onclick = () => tool(map, button.dataset.tool)
  map.observer = new ResizeObserver(() => draw(map))
  map.observer.observe(canvas)
  return map
}

// --- what is shown -----------------------------------------------------------------------------------------------

function same(a, b) {
  if (!a || !b || a.codes.length !== b.codes.length || a.title !== b.title || String(a.palette) !== String(b.palette)) return false
  return a.codes.every((code, i) => code === b.codes[i])
}

function show(map) {
  const layer = layers.get(map.key), before = map.layer
  map.layer = layer && layer.codes.length === map.n ? layer : null
  const still = map.drawn && !themed(map) && same(before, map.layer)
  map.outline = map.layer && map.layer.outline ? map.layer.outline.map(([x, y]) => toUnit(map, x, y)) : null
  if (map.layer) {
    map.canvas.setAttribute("aria-label", map.layer.alt)
    legend(map)
  }
  if (still) paint(map)  // only the focus or the outline moved
  else draw(map)
  map.canvas.dataset.drawn = map.layer ? map.layer.revision : ""
}

function legend(map) {
  const { legend: entries, title } = map.layer
  const own = title === "membership"
  const parts = [entry("title", title)]
  for (const [label, colour] of entries) parts.push(entry("", label, own && label === "rejected" ? "small" : "dot", colour))
  if (!own) parts.push(entry("note", "large: selected, small: rejected"))
  for (const kind of ["target", "existing"]) {
    const count = map.header.counts[kind]
    if (count) parts.push(entry("", `${kind} (${count.toLocaleString("en")})`, kind, map.header.marks[kind]))
  }
  map.legend.replaceChildren(...parts)
}

function entry(name, label, mark, colour) {
  const item = document.createElement("span")
  item.className = name
  if (mark) {
    const swatch = document.createElement("i")
    swatch.className = mark
    swatch.style.setProperty("--mark", colour)
    item.append(swatch)
  }
  item.append(label)  // a label comes from the data: append() makes text of it, never markup
  return item
}

// --- geometry: map units 0..1 (y upwards) to pixels of the canvas -------------------------------------------------------

const size = (map) => [map.canvas.clientWidth || 1, map.canvas.clientHeight || 1]
function frame(map, view = map.view) {
  const [w, h] = size(map)
  const scale = Math.min(w, h) * view.zoom
  return { scale, left: w / 2 - view.x * scale, top: h / 2 - (1 - view.y) * scale }
}
const toUnit = (map, x, y) => [(x - map.header.origin[0]) / map.header.side, (y - map.header.origin[1]) / map.header.side]
const toMap = (map, u, v) => [map.header.origin[0] + u * map.header.side, map.header.origin[1] + v * map.header.side]
const at = (map, e) => { const box = map.canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top] }
function unitAt(map, [px, py]) { const f = frame(map); return [(px - f.left) / f.scale, 1 - (py - f.top) / f.scale] }
const place = (map, f, i) => [f.left + map.x[i] / FULL * f.scale, f.top + (1 - map.y[i] / FULL) * f.scale]

// --- drawing: points into a buffer, then the buffer and what moves onto the screen ------------------------------------------

function radius(map) {
  const base = map.n < 3000 ? 4.2 : map.n < 20000 ? 3.2 : 2.4
  return base * Math.min(2, Math.pow(map.view.zoom, 0.25))
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
  else g.arc(0, 0, r, 0, 2 * Math.PI)
  if (shape === "rejected") g.globalAlpha = 0.6
  g.fill()
  if (shape !== "rejected" && (shape !== "selected" || map.n < 20000)) {  // in a crowd, outlines are all one sees
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

function draw(map) {
  if (!map.header) return
  const start = performance.now()
  const [w, h] = size(map), ratio = window.devicePixelRatio || 1
  if (themed(map)) { [map.ink, map.paper] = colours(map); map.sprites.clear() }
  map.buffer.width = map.canvas.width = Math.round(w * ratio)
  map.buffer.height = map.canvas.height = Math.round(h * ratio)
  const g = map.buffer.getContext("2d"), f = frame(map), r = radius(map)
  const put = (i, shape, colour, pr) => {
    const [px, py] = place(map, f, i)
    if (px < -9 || py < -9 || px > w + 9 || py > h + 9) return
    const image = sprite(map, shape, colour, pr, ratio)
    g.drawImage(image, Math.round(px * ratio - image.width / 2), Math.round(py * ratio - image.height / 2))
  }
  if (map.layer) {
    const { codes, palette, title } = map.layer
    const own = title === "membership"
    for (let i = 0; i < map.n; i++) if (!(codes[i] & SELECTED)) put(i, "rejected", own ? palette[0] : palette[codes[i]], r * 0.6)
    for (let i = 0; i < map.n; i++) if (codes[i] & SELECTED) put(i, "selected", own ? palette[1] : palette[codes[i] & 127], r)
  }
  let from = map.n
  for (const kind of ["target", "existing"]) {
    const count = map.header.counts[kind] || 0
    for (let i = from; i < from + count; i++) put(i, kind, map.header.marks[kind], r * 1.35)
    from += count
  }
  map.drawn = { ...map.view }
  map.cost = performance.now() - start
  paint(map)
}

function paint(map) {
  if (!map.drawn) return
  const ratio = window.devicePixelRatio || 1, g = map.canvas.getContext("2d")
  const now = frame(map), then = frame(map, map.drawn), grow = now.scale / then.scale
  g.setTransform(1, 0, 0, 1, 0, 0)
  g.clearRect(0, 0, map.canvas.width, map.canvas.height)
  g.drawImage(map.buffer, (now.left - then.left * grow) * ratio, (now.top - then.top * grow) * ratio, map.buffer.width * grow, map.buffer.height * grow)
  g.scale(ratio, ratio)
  const line = map.lasso || (map.outline && map.outline.map(([u, v]) => [now.left + u * now.scale, now.top + (1 - v) * now.scale]))
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
}

function refresh(map) {
  // A slow map moves its last picture at once and draws anew when the hand rests.
  clearTimeout(map.later)
  if (map.cost < 25) requestAnimationFrame(() => draw(map))
  else { requestAnimationFrame(() => paint(map)); map.later = setTimeout(() => draw(map), 90) }
}

// --- hand and keyboard ---------------------------------------------------------------------------------------------------

function zoom(map, factor, about) {
  const before = unitAt(map, about)
  map.view.zoom = Math.min(200, Math.max(0.5, map.view.zoom * factor))
  const after = unitAt(map, about)
  map.view.x += before[0] - after[0]
  map.view.y += before[1] - after[1]
  refresh(map)
}

function pan(map, dx, dy) {
  const { scale } = frame(map)
  map.view.x -= dx / scale
  map.view.y += dy / scale
  refresh(map)
}

function tool(map, name) {
  const [w, h] = size(map)
  if (name === "in" || name === "out") zoom(map, name === "in" ? 1.4 : 1 / 1.4, [w / 2, h / 2])
  else if (name === "all") { map.view = { x: 0.5, y: 0.5, zoom: 1 }; refresh(map) }
  else map.mode = name
  for (const button of map.root.querySelectorAll("button[aria-pressed]")) button.setAttribute("aria-pressed", String(button.dataset.tool === map.mode))
  map.canvas.classList.toggle("lasso", map.mode === "lasso")
}

function press(map, e) {
  if (e.button !== 0) return
  map.canvas.focus({ preventScroll: true })
  map.canvas.setPointerCapture(e.pointerId)
  const point = at(map, e)
  if (map.mode === "lasso" || e.shiftKey) map.lasso = [point]
  map.drag = { last: point, moved: 0 }
}

function move(map, e) {
  const point = at(map, e)
  if (!map.drag) return hover(map, point)
  const [dx, dy] = [point[0] - map.drag.last[0], point[1] - map.drag.last[1]]
  if (map.lasso) {
    if (Math.hypot(dx, dy) < 4) return
    map.lasso.push(point)
    paint(map)
  } else pan(map, dx, dy)
  map.drag.moved += Math.hypot(dx, dy)
  map.drag.last = point
  map.tip.hidden = true
}

function release(map, e) {
  const { drag, lasso } = map
  map.drag = map.lasso = null
  if (!drag) return
  if (lasso && lasso.length > 2) {
    const every = Math.ceil(lasso.length / 500)
    const outline = lasso.filter((_, i) => i % every === 0).map((point) => unitAt(map, point))
    map.outline = outline
    map.component.setTriggerValue("outline", outline.map(([u, v]) => toMap(map, u, v)))
  } else if (drag.moved < 4) {
    const i = nearest(map, at(map, e))
    if (i !== null && i < map.n) map.component.setTriggerValue("focus", i)
  }
  paint(map)
}

function key(map, e) {
  const [w, h] = size(map), step = 60
  const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }
  if (moves[e.key]) pan(map, ...moves[e.key])
  else if (e.key === "+" || e.key === "=") zoom(map, 1.4, [w / 2, h / 2])
  else if (e.key === "-") zoom(map, 1 / 1.4, [w / 2, h / 2])
  else if (e.key === "0") tool(map, "all")
  else return
  e.preventDefault()
}

function nearest(map, [px, py]) {
  if (!map.header) return null
  const f = frame(map)
  let best = null, reach = 12 * 12
  for (let i = map.total - 1; i >= 0; i--) {
    const [x, y] = place(map, f, i)
    // What is drawn large and on top wins over a grey point that is a little nearer.
    const bonus = i >= map.n || (map.layer && map.layer.codes[i] & SELECTED) ? 0.5 : 1
    const apart = ((x - px) ** 2 + (y - py) ** 2) * bonus
    if (apart < reach) { reach = apart; best = i }
  }
  return best
}

function hover(map, point) {
  const i = nearest(map, point)
  map.canvas.dataset.over = i === null ? "" : i
  map.tip.hidden = i === null
  if (i === null) return
  let text
  if (i < map.n) {
    const rank = map.rank[i], chosen = map.layer && map.layer.codes[i] & SELECTED
    text = `row ${map.names ? map.names[i] : i}\n${rank < 0 ? "not in the order" : `pick ${(rank + 1).toLocaleString("en")}`}, ${chosen ? "selected" : "rejected"}`
  } else {
    const targets = map.header.counts.target || 0
    text = i < map.n + targets ? `target row ${i - map.n}` : `existing row ${i - map.n - targets}`
  }
  map.tip.textContent = text
  const [w] = size(map)
  map.tip.style.left = `${Math.min(point[0] + 14, w - 190)}px`
  map.tip.style.top = `${point[1] + 14}px`
}
