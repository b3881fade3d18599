// The budget on plotly charts of the order: a line at k, a dot on the curve, and a veil over what lies beyond.
// The charts stay as they are: a changed figure would be drawn anew, and lose its zoom, at every step of the slider.

const PARTS = ["veil", "line", "dot"]

export default function (component) {
  const { data, parentElement } = component
  const state = parentElement.deliftCut ?? (parentElement.deliftCut = { marks: new Map() })
  state.data = data
  const style = getComputedStyle(parentElement.host ?? parentElement)  // the charts lie outside, without these names
  const look = () => {
    state.paper = style.getPropertyValue("--st-background-color")
    state.ink = style.getPropertyValue("--st-text-color")
    for (const { chart, y } of state.data.charts) mark(state, chart, state.data.k, y)
  }
  look()
  // A chart is drawn after this runs, and drawn anew when the theme changes; zoom and size move its axes.
  clearInterval(state.timer)
  state.timer = setInterval(look, 250)
  return () => {
    clearInterval(state.timer)
    for (const parts of state.marks.values()) for (const part of parts) part.remove()
    state.marks.clear()
  }
}

function mark(state, name, k, y) {
  const chart = document.querySelector(`.st-key-${CSS.escape(name)} .js-plotly-plot`)
  const layout = chart && chart._fullLayout
  if (!layout || !layout.xaxis || !layout.xaxis.d2p || !layout._size) return
  let parts = state.marks.get(name)
  if (!parts || parts[0].parentElement !== chart) {
    parts = PARTS.map((kind) => {
      const part = document.createElement("div")
      part.className = `delift-cut-${kind}`
      part.setAttribute("aria-hidden", "true")
      part.style.position = "absolute"
      part.style.pointerEvents = "none"
      chart.append(part)
      return part
    })
    chart.style.position = "relative"
    state.marks.set(name, parts)
  }
  const { l, t, w, h } = layout._size, x = layout._size.l + layout.xaxis.d2p(k)
  const inside = x >= l - 0.5 && x <= l + w + 0.5
  const [veil, line, dot] = parts
  const from = Math.min(Math.max(x, l), l + w)
  set(veil, { left: `${from}px`, top: `${t}px`, width: `${l + w - from}px`, height: `${h}px`, background: state.paper, opacity: "0.65" })
  set(line, { display: inside ? "" : "none", left: `${x - 0.75}px`, top: `${t}px`, height: `${h}px`, borderLeft: `1.5px dotted ${state.ink}` })
  const at = y === null ? NaN : t + layout.yaxis.d2p(y)
  set(dot, {
    display: inside && at >= t - 1 && at <= t + h + 1 ? "" : "none", left: `${x - 5}px`, top: `${at - 5}px`, width: "10px", height: "10px",
    borderRadius: "50%", background: state.ink,
  })
  chart.dataset.cut = k
}

function set(element, style) {
  for (const [name, value] of Object.entries(style)) if (element.style[name] !== value) element.style[name] = value
}
