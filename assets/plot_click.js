// Tells the server which cell of a plotly heatmap was clicked: Streamlit's own chart selection does not know heatmaps.

export default function (component) {
  const { data, setTriggerValue, parentElement } = component
  const state = parentElement.deliftClicks ?? (parentElement.deliftClicks = {})
  state.send = (event) => {
    const point = event.points && event.points[0]
    if (point) setTriggerValue("cell", { row: Math.round(Number(point.y)), column: Math.round(Number(point.x)) })
  }
  const attach = () => {
    const chart = document.querySelector(`.st-key-${CSS.escape(data.chart)} .js-plotly-plot`)
    if (!chart || !chart.on || chart === state.chart) return
    state.chart = chart
    chart.on("plotly_click", (event) => state.send(event))
    chart.dataset.clickable = "1"
  }
  attach()
  // The chart is drawn after this runs, and drawn anew whenever its figure changes.
  clearInterval(state.timer)
  state.timer = setInterval(attach, 300)
  return () => clearInterval(state.timer)
}
