// Atlases: the features of images in a plane, colored by class; a point shows its image.

import { badge, count, h, load, names, placeOf, select, showTile } from "./dom.js";

const STEP = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let picked = false; // whether the view was opened by its own list, which then keeps the focus

export async function atlas({ facts, site, rest }) {
  const records = site.pictures.filter((each) => each.kind === "atlas");
  const heading = h("div", { class: "heading" }, h("h1", {}, "Atlas"),
    h("p", {}, "Images of a subset, placed by the features that a pretrained network computes of them. Near points look alike to it."));
  if (!records.length) {
    return { title: "Atlas · MedMNIST", content: [heading, h("div", { class: "unbuilt" }, h("p", {}, h("strong", {}, "No atlas here.")),
      h("p", {}, "This copy of the page was written without stored features. To draw one, store features of a build and write the page again:"),
      h("pre", {}, "medmnist-hf embed breastmnist --root dist --model timm/resnet18.a1_in1k\nmedmnist-hf space --root dist --features features --out site"))] };
  }
  const number = records[Number(rest[0])] ? Number(rest[0]) : 0;
  const record = records[number];
  const subset = facts.subsets.find((each) => each.flag === record.subset);
  const data = await load(record.data);
  const picker = select("Subset and model", records.map((each, index) => [String(index),
    `${facts.subsets.find((one) => one.flag === each.subset).name} ${each.size} · ${each.model}`]), String(number),
  (next) => { picked = true; location.hash = `#/atlas/${next}`; });
  const how = data.projection === "pca"
    ? `PCA: the two axes explain ${data.shares.map((share) => `${(100 * share).toFixed(0)} %`).join(" and ")} of the variance.`
    : "t-SNE: neighborhoods mean something, distances between groups do not.";
  const chart = plot(subset, data);
  const focus = picked ? picker.querySelector("select") : undefined;
  picked = false;
  return {
    focus,
    title: `Atlas of ${subset.name} · MedMNIST`,
    stop: chart.stop,
    content: [heading, h("div", { class: "controls" }, picker),
      data.warning ? h("p", { class: "warning" }, badge(data.provenance), data.warning) : null,
      h("p", { class: "rules" }, `${count(data.rows.length)} of ${count(data.split_rows)} ${data.split} images of ${subset.name} at size ${data.size}. ${how}`),
      chart.element].filter(Boolean),
  };
}

/** Colors that differ in hue and lightness; a class is also found by the legend, without them. */
function colors(number) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  return Array.from({ length: number }, (_, index) => {
    const hue = (168 + (index * 360) / number) % 360;
    const light = (dark ? 66 : 40) + (index % 2 ? 8 : -4);
    return `hsl(${hue.toFixed(0)} ${index % 3 === 2 ? 45 : 68}% ${light}%)`;
  });
}

function plot(subset, data) {
  const palette = colors(subset.labels.length);
  let at = -1;
  let only = -1;
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-roledescription": "scatter plot",
    "aria-label": `Features of ${subset.name}`, "aria-describedby": "atlas-keys" });
  const picture = h("div", { class: `picture ${data.provenance}`, role: "img", "aria-label": "no image is chosen" });
  const caption = h("div", { class: "caption", role: "status" }, "");
  const ids = subset.labels.map((_, id) => id).filter((id) => data.labels.some((row) => row.includes(id)));
  const legend = h("ul", { class: "legend" }, ...ids.map((id) => {
    const swatch = h("i", { "aria-hidden": "true" });
    swatch.style.backgroundColor = palette[id];
    return h("li", {}, h("button", { type: "button", "aria-pressed": "false", onclick: (event) => {
      only = only === id ? -1 : id;
      for (const other of legend.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
      event.currentTarget.setAttribute("aria-pressed", String(only === id));
      draw();
    } }, swatch, subset.labels[id], h("small", {}, count(data.labels.filter((row) => row.includes(id)).length))));
  }));

  const shown = (index) => only < 0 || data.labels[index].includes(only);
  const [wide, high] = [data.x, data.y].map((values) => Math.max(...values.map(Math.abs)) || 1);
  /** Where a point is drawn, with the same scale in both directions. */
  const point = (index) => {
    const [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2];
    const scale = Math.min((x - 14) / wide, (y - 14) / high);
    return [x + scale * data.x[index], y - scale * data.y[index]];
  };

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    for (const front of [false, true]) {
      for (let index = 0; index < data.rows.length; index += 1) {
        if (shown(index) !== front) continue;
        const [x, y] = point(index);
        const label = only >= 0 && front ? only : data.labels[index][0];
        pen.globalAlpha = front ? 0.78 : 0.1;
        pen.fillStyle = label === undefined ? "#888" : palette[label];
        pen.beginPath();
        pen.arc(x, y, 4, 0, 2 * Math.PI);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    if (at < 0) return;
    const [x, y] = point(at);
    pen.lineWidth = 2.5;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.beginPath();
    pen.arc(x, y, 9, 0, 2 * Math.PI);
    pen.stroke();
  }

  function choose(index) {
    if (index < 0 || index === at) return;
    at = index;
    const label = names(subset, data.labels[index]);
    showTile(picture, data, placeOf(data, index));
    picture.setAttribute("aria-label", label);
    caption.replaceChildren(h("strong", {}, label), h("span", {}, `row ${count(data.rows[index])} of ${data.split}`));
    draw();
  }

  function nearest(x, y, reach) {
    let best = -1;
    let least = reach * reach;
    for (let index = 0; index < data.rows.length; index += 1) {
      if (!shown(index)) continue;
      const [px, py] = point(index);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [index, distance];
    }
    return best;
  }

  /** The nearest point in a direction: sideways distance counts twice. */
  function toward([dx, dy]) {
    if (at < 0) return nearest(canvas.clientWidth / 2, canvas.clientHeight / 2, Infinity);
    const [x, y] = point(at);
    let best = -1;
    let least = Infinity;
    for (let index = 0; index < data.rows.length; index += 1) {
      if (index === at || !shown(index)) continue;
      const [px, py] = point(index);
      const along = (px - x) * dx + (py - y) * dy;
      const across = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      if (along > 0.5 && across <= along && along + 2 * across < least) [best, least] = [index, along + 2 * across];
    }
    return best;
  }

  const follow = (event, reach) => {
    const box = canvas.getBoundingClientRect();
    choose(nearest(event.clientX - box.x, event.clientY - box.y, reach));
  };
  canvas.addEventListener("pointermove", (event) => follow(event, 18));
  canvas.addEventListener("pointerdown", (event) => follow(event, 30));
  canvas.addEventListener("keydown", (event) => {
    if (!STEP[event.key]) return;
    event.preventDefault();
    choose(toward(STEP[event.key]));
  });
  const watch = new ResizeObserver(() => (at < 0 ? choose(toward(STEP.ArrowUp)) : draw()));
  watch.observe(canvas);
  return {
    element: h("div", { class: "atlas" }, h("div", { class: "plane" }, canvas),
      h("div", { class: "detail" }, picture, caption, h("p", { id: "atlas-keys", class: "hint" }, "Point at an image or tap it; arrow keys move to the next one in their direction."),
        h("h2", {}, "Classes"), legend)),
    stop: () => watch.disconnect(),
  };
}
