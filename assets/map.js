// The map: a canvas that gets its geometry once and then one byte per row (see delift_core/figures/points.py for both
// messages).  It answers with the row that was clicked, with the outline of a lasso in map coordinates, and with a step
// to the next or the previous pick.  Of a large pool it paints the density of all rows, and points for a part of them.
// Two component instances share this module: the one with the canvas, and one that only carries the layer.

const maps = new Map()    // key -> map on screen
const layers = new Map()  // key -> newest layer, which may arrive before the canvas
const KINDS = ["pool", "target", "existing"]
const FULL = 65535, SELECTED = 128
const CROWD = 20_000  // points that are drawn in a simpler way

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
    layers.set(header.key, unfold(header, body))
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

function unfold(header, body) {
  const m = header.part
  if (m === null) return { ...header, codes: body }
  return {
    ...header,
    rows: new Uint32Array(body.buffer, 0, m),
    rank: new Int32Array(body.buffer, 4 * m, m),
    codes: body.subarray(8 * m, 9 * m),
    names: new TextDecoder().decode(body.subarray(9 * m)).split("\n"),
  }
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
  map.dense = header.dense
  map.rank = map.dense ? null : new Int32Array(body.buffer, 4 * total, n)
  map.layer = map.drawn = null
  map.names = header.ids ? new TextDecoder().decode(body.subarray(4 * total + 4 * n)).split("\n") : null
  const [left, right, low, high] = [...ends(map.x), ...ends(map.y)]
  map.span = [Math.max(right - left, 0.001), Math.max(high - low, 0.001)]
  map.home = { x: (left + right) / 2, y: (low + high) / 2, zoom: 1 }
  map.view = { ...map.home }
  for (const element of map.root.querySelectorAll(".more")) element.hidden = !header.lasso
}

function ends(values) {
  let low = FULL, high = 0
  for (const value of values) { if (value < low) low = value; if (value > high) high = value }
  return low > high ? [0, 1] : [low / FULL, high / FULL]
}

function mount(root) {
  const find = (selector) => root.querySelector(selector)
  const map = {
    root, canvas: find("canvas"), tip: find(".tip"), legend: find(".legend"), said: find(".said"),
    buffer: document.createElement("canvas"), cloud: document.createElement("canvas"),
    sprites: new Map(), lasso: null, drag: null, mode: "pan", drawn: null, cost: 0,
  }
  const canvas = map.canvas
  canvas.onpointerdown = (e) => press(map, e)
  canvas.onpointermove = (e) => move(map, e)
  canvas.onpointerup = (e) => release(map, e)
  canvas.onpointercancel = () => { map.drag = map.lasso = null; paint(map) }
  canvas.onpointerleave = () => { map.tip.hidden = true }
  canvas.onkeydown = (e) => key(map, e)
  canvas.onfocus = canvas.onblur = () => paint(map)  // the cross in the middle comes and goes
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
  if (String([a.pinned, a.banned]) !== String([b.pinned, b.banned])) return false
  return a.codes.every((code, i) => code === b.codes[i]) && (!a.rows || a.rows.every((row, i) => row === b.rows[i]))
}

function show(map) {
  const layer = layers.get(map.key), before = map.layer
  map.layer = layer && (layer.part !== null || layer.codes.length === map.n) ? layer : null
  map.large = map.layer ? map.layer.codes.reduce((sum, code) => sum + (code >> 7), 0) : 0
  const still = map.drawn && !themed(map) && same(before, map.layer)
  map.outline = map.layer && map.layer.outline ? map.layer.outline.map(([x, y]) => toUnit(map, x, y)) : null
  if (map.layer) {
    map.canvas.setAttribute("aria-label", map.layer.alt)
    legend(map)
    const said = map.layer.focus === null ? "" : told(map, map.layer.focus).replaceAll("\n", ", ")
    if (map.said.textContent !== said) map.said.textContent = said
  }
  if (still) paint(map)  // only the focus or the outline moved
  else draw(map)
  map.canvas.dataset.drawn = map.layer ? map.layer.revision : ""
}

function legend(map) {
  const { legend: entries, title } = map.layer
  const own = ofMembership(map.layer)
  const parts = [entry("title", title)]
  for (const [label, colour] of entries) parts.push(entry("", label, own && label === "rejected" ? "small" : "dot", colour))
  if (!own) parts.push(entry("", "large: selected, small: rejected"))
  for (const kind of ["pinned", "banned"]) {
    const count = map.layer[kind].length
    if (count) parts.push(entry("", `${kind} (${count.toLocaleString("en")})`, kind, map.layer.marks[kind]))
  }
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
  const { sx, sy } = frame(map)
  map.view.x -= dx / sx
  map.view.y += dy / sy
  refresh(map)
}

function tool(map, name) {
  const [w, h] = size(map)
  if (name === "in" || name === "out") zoom(map, name === "in" ? 1.4 : 1 / 1.4, [w / 2, h / 2])
  else if (name === "all") { map.view = { ...map.home }; refresh(map) }
  else map.mode = name
  for (const button of map.root.querySelectorAll("button[aria-pressed]")) button.setAttribute("aria-pressed", String(button.dataset.tool === map.mode))
  map.canvas.classList.toggle("lasso", map.mode === "lasso")
}

function press(map, e) {
  if (e.button !== 0) return
  map.canvas.focus({ preventScroll: true })
  map.canvas.setPointerCapture(e.pointerId)
  const point = at(map, e)
  if (map.header.lasso && (map.mode === "lasso" || e.shiftKey)) map.lasso = [point]
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
    focus(map, nearest(map, at(map, e)))
  }
  paint(map)
}

function focus(map, row) {
  if (row !== null && row < map.n) map.component.setTriggerValue("focus", row)
}

function key(map, e) {
  const [w, h] = size(map), step = 60
  const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }
  if (moves[e.key]) pan(map, ...moves[e.key])
  else if (e.key === "+" || e.key === "=") zoom(map, 1.4, [w / 2, h / 2])
  else if (e.key === "-") zoom(map, 1 / 1.4, [w / 2, h / 2])
  else if (e.key === "0") tool(map, "all")
  else if (e.ctrlKey || e.metaKey || e.altKey) return
  else if (map.header.lasso && (e.key === "n" || e.key === "p")) map.component.setTriggerValue("step", e.key === "n" ? 1 : -1)
  else if (e.key === "Enter") focus(map, nearest(map, [w / 2, h / 2], Infinity, map.n))
  else if (map.header.lasso && e.key === "l") tool(map, map.mode === "lasso" ? "pan" : "lasso")
  else return
  e.preventDefault()
}

function nearest(map, [px, py], reach = 12 * 12, below = map.total) {
  if (!map.header) return null
  const f = frame(map), points = map.layer ? map.layer.codes.length : map.dense ? 0 : map.n
  let best = null
  const look = (i, bonus) => {
    const [x, y] = place(map, f, i)
    const apart = ((x - px) ** 2 + (y - py) ** 2) * bonus
    if (apart < reach) { reach = apart; best = i }
  }
  // What is drawn large and on top wins over a grey point that is a little nearer.
  for (let i = below - 1; i >= map.n; i--) look(i, 0.5)
  for (let p = points - 1; p >= 0; p--) look(rowAt(map, p), map.layer && map.layer.codes[p] & SELECTED ? 0.5 : 1)
  return best
}

function told(map, row) {
  // A row of the pool in words: id, pick, membership, and its group where the colours are groups.
  const p = positionOf(map, row), layer = map.layer
  if (p < 0 || !layer) return `row ${row}`
  const names = layer.names || map.names, ranks = layer.rank || map.rank, code = layer.codes[p]
  const parts = [`row ${names ? names[p] : row}`]
  const pick = !ranks ? "" : ranks[p] < 0 ? "not in the order, " : `pick ${(ranks[p] + 1).toLocaleString("en")}, `
  parts.push(pick + (code & SELECTED ? "selected" : "rejected"))
  if (layer.groups.length) parts.push(`${layer.title}: ${layer.groups[code & 127]}`)
  for (const kind of ["pinned", "banned"]) if (layer[kind].includes(row)) parts.push(kind)
  return parts.join("\n")
}

function hover(map, point) {
  const i = nearest(map, point)
  map.canvas.dataset.over = i === null ? "" : i
  map.tip.hidden = i === null
  if (i === null) return
  const targets = map.header.counts.target || 0
  map.tip.textContent = i < map.n ? told(map, i) : i < map.n + targets ? `target row ${i - map.n}` : `existing row ${i - map.n - targets}`
  const [w] = size(map)
  map.tip.style.left = `${Math.min(point[0] + 14, w - 190)}px`
  map.tip.style.top = `${point[1] + 14}px`
}
