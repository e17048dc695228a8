"use strict";
// charts by Vega-Lite with its interpreter, so that the page needs no eval; where they fail, picture and tables stay
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const copy = (value) => JSON.parse(JSON.stringify(value));

  function dressed(spec) {
    const [ink, grid] = [style("--ink"), style("--line")];
    const axis = { ...spec.config.axis, gridColor: grid, domainColor: ink, tickColor: ink, labelColor: ink, titleColor: ink };
    const legend = { ...spec.config.legend, labelColor: ink, titleColor: ink };
    return { ...spec, config: { ...spec.config, background: "transparent", axis, legend } };
  }

  // what was drawn for paper in dark ink becomes the ink of the page, and its white the ground
  function inked(value) {
    if (value === "#333333") return style("--ink");
    if (value === "#FFFFFF") return style("--ground");
    if (Array.isArray(value)) return value.map(inked);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, inked(v)]));
    return value;
  }

  function named(value, names) {
    if (typeof value === "string") return names[value] ?? value;
    if (Array.isArray(value)) return value.map((v) => named(v, names));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, named(v, names)]));
    return value;
  }

  async function draw(place, spec) {
    const options = { ast: true, actions: false, renderer: "svg", mode: "vega-lite", logLevel: 1 };
    const box = document.createElement("div");
    box.className = "vega";
    const old = [...place.childNodes];
    place.append(box);
    try {
      const result = await window.vegaEmbed(box, dressed(inked(spec)), options);
      for (const node of old) node.remove();
      place.result?.finalize();
      place.result = result;
      return result;
    } catch (error) {
      box.remove();
      throw error;
    }
  }

  // points and their names are links to the samplers
  function pointed(spec) {
    for (const { mark } of spec.layer) if (["point", "text"].includes(mark.type)) mark.cursor = "pointer";
    return spec;
  }

  function opening({ view }, content) {
    const open = (item) => {
      const id = content.open[content.labels.indexOf(item?.datum?.sampler)];
      if (!id) return;
      if (location.hash === `#${id}`) dispatchEvent(new HashChangeEvent("hashchange"));
      else location.hash = id;
    };
    view.addEventListener("click", (_, item) => open(item));
    for (const point of view.container().querySelectorAll(".mark-symbol.role-mark path")) {
      const item = point.__data__; // Vega keeps what it drew there
      if (!item?.datum?.sampler) continue;
      point.tabIndex = 0;
      point.setAttribute("role", "link");
      point.setAttribute("aria-label", `${item.datum.sampler}: details`);
      point.addEventListener("keydown", (event) => { if (event.key === "Enter") open(item); });
    }
  }

  function plane(box) {
    const content = index.planes[box.dataset.plane];
    const [up, right] = [box.querySelector("select.quality"), box.querySelector("select.diversity")];
    const said = box.querySelector(".chart-said");
    const place = box.querySelector(".chart");
    const head = (side, name) => content[side].find(([n]) => n === name)[1];
    const show = () => {
      const [within, x, y] = [content.within, right.value, up.value];
      const names = { "@x": head("diversity", x), "@y": head("quality", y), "@labels-x": within[x], "@labels-y": within[y] };
      const spec = named(content.spec, names);
      const narrow = place.clientWidth < 640;
      const sets = content.sets[up.value][right.value];
      const points = narrow ? sets.points.map((point) => ({ ...point, wide: point.narrow })) : sets.points;
      spec.datasets = { ...sets, points };
      const complete = points.every((point) => point.wide.name); // then nobody needs the legend of samplers
      if (narrow) spec.config.legend = { ...spec.config.legend, layout: { bottom: { anchor: "start", direction: "vertical", margin: 4 } } };
      for (const { encoding } of spec.layer) {
        for (const channel of ["color", "shape"]) {
          if (!encoding?.[channel]?.legend) continue;
          if (complete) encoding[channel].legend = null;
          else if (narrow) Object.assign(encoding[channel].legend, { orient: "bottom", columns: 2, labelLimit: 120 });
        }
      }
      return draw(place, pointed(spec)).then((result) => opening(result, content)).catch((error) => {
        said.textContent = `The chart cannot be drawn here (${error.message}); the picture and the table hold the same numbers.`;
      });
    };
    for (const select of [up, right]) select.addEventListener("change", show);
    document.addEventListener("theme", show);
    box.querySelector(".controls").hidden = false;
    return show();
  }

  function matrix(box) {
    const kind = box.querySelector("select.kind");
    const place = box.querySelector(".chart");
    const tables = [...box.querySelectorAll("[data-kind]")];
    const show = () => {
      for (const table of tables) table.hidden = table.dataset.kind !== kind.value;
      const table = tables.find((t) => !t.hidden);
      const values = [...table.querySelectorAll("tbody tr")].map((r) => [...r.querySelectorAll("td")].map((d) => Number(d.dataset.value)));
      const most = Math.max(...values.flat());
      const unit = kind.value === "tv" ? "0 to 1" : "nats";
      const spec = named(copy(index.heat[values.length]), { "@kind (@unit)": `${kind.value} (${unit})` });
      const cells = values.flatMap((line, i) => line.map((value, j) => ({ row: String(i), column: String(j), value, middle: most / 2 })));
      spec.datasets = { cells };
      return draw(place, spec).catch(() => { place.textContent = ""; });
    };
    kind.addEventListener("change", show);
    document.addEventListener("theme", () => { if (place.result) show(); });
    box.querySelector(".controls").hidden = false;
    return show;
  }

  async function load() {
    const script = document.createElement("script");
    script.textContent = await window.spaBench.unpack("vega"); // its hash is in the page's policy
    document.head.append(script);
    script.remove();
    if (!window.vegaEmbed) throw new Error("its script did not run");
  }

  async function start() {
    const planes = [...document.querySelectorAll(".plane")];
    const matrices = [...document.querySelectorAll(".matrix")];
    if (!planes.length && !matrices.length) return;
    try {
      await load();
    } catch (error) {
      for (const box of planes) {
        box.querySelector(".chart-said").textContent =
          `The chart cannot be drawn here (${error.message}); the picture and the table hold the same numbers.`;
      }
      return;
    }
    await Promise.all(planes.map(plane));
    for (const sampler of document.querySelectorAll("details.sampler")) {
      let waiting = [...sampler.querySelectorAll(".matrix")].map(matrix);
      const drawAll = () => {
        if (!sampler.open) return;
        for (const show of waiting) show();
        waiting = [];
      };
      sampler.addEventListener("toggle", drawAll);
      drawAll();
    }
  }

  const begin = () => start().finally(() => {
    window.spaBench.drawn = performance.now();
    document.documentElement.dataset.charts = "done";
  });
  // tables and answers first: they can be used before the charts are drawn
  if (window.requestIdleCallback) requestIdleCallback(begin, { timeout: 1000 });
  else setTimeout(begin, 50);
})();
