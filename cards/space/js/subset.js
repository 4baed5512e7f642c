// The page of a subset: its facts, its images by class, and one image opened; volumes are shown slice by slice.

import { badge, count, h, load, names, outside, placeOf, plural, showTile } from "./dom.js";

const FRAME = 160; // milliseconds per slice

export async function subsetPage({ facts, site, rest }) {
  const subset = facts.subsets.find((each) => each.flag === rest[0]);
  if (!subset) return { content: [h("h1", {}, "No such subset"), h("p", {}, h("a", { href: "#/" }, "Back to the gallery"))] };
  const record = site.pictures.find((each) => each.kind === "gallery" && each.subset === subset.flag);
  const pictures = record ? await load(record.data) : null;
  const shown = pictures ? images(subset, pictures) : { content: [unbuilt(subset)] };
  const atlases = site.pictures.filter((each) => each.kind === "atlas");
  const place = atlases.findIndex((each) => each.subset === subset.flag);
  return {
    title: `${subset.name} · MedMNIST`,
    stop: shown.stop,
    content: [
      h("p", { class: "back" }, h("a", { href: "#/" }, "← All subsets")),
      h("div", { class: "heading" }, h("h1", {}, subset.name), h("p", {}, subset.modality)),
      h("div", { class: "columns" },
        h("section", { "aria-label": "Images" }, ...shown.content),
        h("aside", { "aria-label": "Facts" },
          h("p", { class: "description" }, subset.description),
          h("dl", {}, ...fact("Task", subset.task), ...fact("Train", count(subset.counts.train)),
            ...fact("Validation", count(subset.counts.validation)), ...fact("Test", count(subset.counts.test)),
            ...fact("Sizes", subset.sizes.join(", ")), ...fact("License", outside(subset.license.url, subset.license.name)),
            ...fact("Load", h("code", {}, `medmnist_hf.load("${subset.flag}", ${subset.sizes[0]})`))),
          h("p", { class: "links" }, h("a", { href: `#/leaderboard?subset=${subset.flag}` }, "Leaderboard"),
            place >= 0 ? h("a", { href: `#/atlas/${place}` }, "Atlas of features") : null,
            outside(`https://huggingface.co/datasets/${subset.repository}`, "Data set")),
          h("h2", {}, pictures ? "Before you trust a number" : "Labels and caveats"),
          pictures ? null : h("ol", { class: "labels", start: "0" }, ...subset.labels.map((label) => h("li", {}, label))),
          h("ul", { class: "caveats" }, ...subset.caveats.map((text) => h("li", {}, text)))))],
  };
}

function fact(name, value) {
  return [h("dt", {}, name), h("dd", {}, value)];
}

function unbuilt(subset) {
  return h("div", { class: "unbuilt" }, h("p", {}, h("strong", {}, "No pictures here.")),
    h("p", {}, "This copy of the page was written without a build of this subset. To see its images, build it and write the page again:"),
    h("pre", {}, `medmnist-hf build ${subset.flag} --out dist\nmedmnist-hf space ${subset.flag} --root dist --out site`));
}

function images(subset, pictures) {
  const volume = pictures.depth > 1;
  const chosen = new Set();
  const status = h("p", { class: "found", role: "status" });
  const grid = h("ul", { class: `tiles ${pictures.provenance}${volume ? " volumes" : ""}` });
  const tiles = pictures.rows.map((row, index) => {
    const label = names(subset, pictures.labels[index]);
    const button = h("button", { type: "button", class: "tile", title: label, "aria-label": `${label}, row ${row} of ${pictures.split}`,
      onclick: () => viewer.open(index) });
    showTile(button, pictures, placeOf(pictures, index, Math.floor(pictures.depth / 2)));
    return h("li", {}, button);
  });
  const visible = () => pictures.rows.map((_, index) => index).filter((index) =>
    !chosen.size || pictures.labels[index].some((id) => chosen.has(id)));
  const chips = subset.labels.map((label, id) => h("button", { type: "button", class: "chip", "aria-pressed": "false",
    onclick: (event) => {
      if (!chosen.delete(id)) chosen.add(id);
      event.currentTarget.setAttribute("aria-pressed", String(chosen.has(id)));
      update();
    } }, label, h("small", {}, count(pictures.counts[id]))));
  const viewer = makeViewer(subset, pictures, visible);
  const player = volume ? makePlayer(pictures.depth, (slice) => {
    tiles.forEach((tile, index) => showTile(tile.firstChild, pictures, placeOf(pictures, index, slice)));
  }) : null;

  function update() {
    const indices = visible();
    grid.replaceChildren(...indices.map((index) => tiles[index]));
    status.textContent = `${indices.length} of ${plural(pictures.rows.length, volume ? "volume" : "image")} shown here, from `
      + `${count(pictures.split_rows)} in ${pictures.split} at size ${pictures.size}`;
  }

  update();
  return {
    content: [
      pictures.warning ? h("p", { class: "warning" }, badge(pictures.provenance), pictures.warning) : null,
      h("div", { class: "chips", role: "group", "aria-label": "Show classes" }, ...chips),
      player ? player.element : null, status, grid, viewer.element,
    ].filter(Boolean),
    stop: () => { player?.stop(); viewer.stop(); },
  };
}

/** Buttons and a slider that move through the slices of volumes. */
function makePlayer(depth, show) {
  let slice = Math.floor(depth / 2);
  let timer = 0;
  const output = h("output", {});
  const slider = h("input", { type: "range", min: "0", max: String(depth - 1), value: String(slice), "aria-label": "Slice",
    oninput: () => { pause(); go(Number(slider.value)); } });
  const button = h("button", { type: "button", class: "play", onclick: () => (timer ? pause() : play()) }, "Play");

  function go(next) {
    slice = next;
    slider.value = String(slice);
    output.textContent = `slice ${slice + 1} of ${depth}`;
    show(slice);
  }
  function play() {
    timer = window.setInterval(() => go((slice + 1) % depth), FRAME);
    button.textContent = "Pause";
  }
  function pause() {
    window.clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  }
  go(slice);
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!still) play();
  return { element: h("div", { class: "player" }, button, slider, output), stop: pause, start: () => still || timer || play() };
}

/** The dialog that shows one image; arrow keys move to its neighbors. */
function makeViewer(subset, pictures, visible) {
  let index = 0;
  const picture = h("div", { class: `picture ${pictures.provenance}`, role: "img" });
  const caption = h("div", { class: "caption", "aria-live": "polite" });
  const code = h("code", {});
  let at = 0;
  const player = pictures.depth > 1 ? makePlayer(pictures.depth, (slice) => { at = slice; draw(); }) : null;
  player?.stop();
  const element = h("dialog", { class: "viewer", "aria-label": "Image", onclose: () => player?.stop(),
    onclick: (event) => { if (event.target === element) element.close(); },
    onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || event.target.type === "range") return;
      event.preventDefault();
      move(step);
    } },
  h("div", { class: "sheet" }, picture, badge(pictures.provenance), caption, player?.element ?? null, h("pre", {}, code),
    h("div", { class: "buttons" },
      h("button", { type: "button", onclick: () => move(-1) }, "← Previous"),
      h("button", { type: "button", onclick: () => move(1) }, "Next →"),
      h("button", { type: "button", class: "close", onclick: () => element.close() }, "Close"))));

  function draw() {
    showTile(picture, pictures, placeOf(pictures, index, at));
  }
  function choose(next) {
    index = next;
    const label = names(subset, pictures.labels[index]);
    picture.setAttribute("aria-label", label);
    caption.replaceChildren(h("strong", {}, label), h("span", {}, `row ${count(pictures.rows[index])} of ${pictures.split}, ${subset.name} ${pictures.size}`));
    code.textContent = `medmnist_hf.load("${subset.flag}", ${pictures.size}, split="${pictures.split}")[${pictures.rows[index]}]`;
    draw();
  }
  function move(step) {
    const list = visible();
    choose(list[(list.indexOf(index) + step + list.length) % list.length]);
  }
  return { element, open: (next) => { choose(next); player?.start(); element.showModal(); }, stop: () => { player?.stop(); if (element.open) element.close(); } };
}
