// A response as its tokens.  Their texts are of unknown origin, so they only ever become text nodes.

const SIGNS = { "\n": "⏎", "\r": "", "\t": "⇥" }

function chip(token) {
  const span = document.createElement("span")
  span.className = ["token", token.mark > 0 ? "up" : token.mark < 0 ? "down" : "", Math.abs(token.mark) > 1 ? "strong" : ""]
    .filter(Boolean).join(" ")
  span.style.background = token.paper
  span.style.color = token.ink
  if (token.title) span.title = token.title
  if (token.end) {
    span.classList.add("end")
    span.textContent = "end"
  } else {
    // A line break is shown by a sign and then made, so that its colour is seen.
    span.textContent = token.text.replace(/[\n\r\t]/g, (c) => SIGNS[c] + (c === "\n" ? "\n" : ""))
  }
  return span
}

export default function (component) {
  const { data, parentElement } = component
  if (!data) return
  const body = parentElement.querySelector(".tokens"), legend = parentElement.querySelector(".legend")
  body.setAttribute("aria-label", data.label)
  body.replaceChildren(...data.tokens.map(chip))
  const title = document.createElement("b")
  title.textContent = "Change of probability"
  const note = document.createElement("span")
  note.className = "note"
  note.textContent = "line below: rose; dashed line above: fell"
  legend.replaceChildren(title, ...data.legend.map(chip), note)
}
