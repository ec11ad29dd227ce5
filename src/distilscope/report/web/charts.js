"use strict";
// Draws every figure of the page from the specification beside it. Colours are CSS variables, so light and dark need no second drawing.
{
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const tooltip = (_, event, __, value) => {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    tip.textContent = typeof value === "object" ? Object.entries(value).map(([name, text]) => (name === "who" || name === "is" || name === "text" ? text : `${name} ${text}`)).join("\n") : String(value);
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  };
  const drawn = [...document.querySelectorAll("[data-chart]")].map((place) => {
    const spec = JSON.parse(document.getElementById(`chart-${place.dataset.chart}`).textContent);
    // `ast`: expressions are interpreted, so that the page's policy need not allow code made from text.
    const bind = place.parentElement.querySelector(".bindings") ?? undefined; // where a figure's own switches go
    return vegaEmbed(place, spec, { mode: "vega", renderer: "svg", ast: true, actions: false, defaultStyle: false, tooltip, bind });
  });
  Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = Math.round(performance.now()); });
}
