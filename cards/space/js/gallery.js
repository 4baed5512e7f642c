// The overview: a card per subset, found by name, label, modality and task.

import { badge, count, h, plural, segments, select } from "./dom.js";

const state = { text: "", kind: "all", task: "all" };

export function gallery({ facts, site }) {
  const galleries = new Map(site.pictures.filter((each) => each.kind === "gallery").map((each) => [each.subset, each]));
  const total = (kinds) => facts.subsets.filter((each) => (each.ndim === 3) === kinds)
    .reduce((sum, each) => sum + each.counts.train + each.counts.validation + each.counts.test, 0);
  const grid = h("ul", { class: "cards" });
  const found = h("p", { class: "found", role: "status" });
  const controls = h("div", { class: "controls" });
  const input = h("input", {
    type: "search", value: state.text, placeholder: "melanoma, CT, retina …", spellcheck: "false",
    oninput: (event) => { state.text = event.target.value; update(); },
  });
  const tasks = [...new Set(facts.subsets.map((each) => each.task))];

  function draw() {
    controls.replaceChildren(
      h("label", { class: "field wide" }, h("span", {}, "Search names, labels and modalities"), input),
      segments("Dimensions", [["all", "All"], ["2", "Images"], ["3", "Volumes"]], state.kind, (kind) => {
        state.kind = kind;
        draw();
        controls.querySelector(".segments [aria-pressed=true]").focus();
      }),
      select("Task", [["all", "All tasks"], ...tasks.map((task) => [task, task])], state.task, (task) => {
        state.task = task;
        update();
      }),
    );
    update();
  }

  function update() {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = facts.subsets.filter((each) => matches(each, words)
      && (state.kind === "all" || String(each.ndim) === state.kind) && (state.task === "all" || each.task === state.task));
    found.textContent = `${hits.length} of ${facts.subsets.length} subsets`;
    grid.replaceChildren(...hits.map((each) => card(each, galleries.get(each.flag), words)));
    if (!hits.length) grid.append(h("li", { class: "none" }, "Nothing matches. Try a shorter word, such as “cell” or “CT”."));
  }

  draw();
  return {
    content: [
      h("section", { class: "hero" },
        h("h1", {}, "Small windows into medical imaging"),
        h("p", {}, `${count(total(false))} images and ${count(total(true))} volumes in ${facts.subsets.length} subsets: `
          + "what they show, what published methods reach on them under equal rules, and how pretrained networks see them.")),
      controls, found, grid,
    ],
    title: "MedMNIST",
  };
}

function texts(subset) {
  return [subset.name, subset.flag, subset.modality, ...subset.labels].map((text) => text.toLowerCase());
}

function matches(subset, words) {
  return words.every((word) => texts(subset).some((text) => text.includes(word)));
}

function card(subset, pictures, words) {
  const labels = words.length ? subset.labels.filter((label) => words.some((word) => label.toLowerCase().includes(word))) : [];
  const rows = subset.counts.train + subset.counts.validation + subset.counts.test;
  const picture = pictures
    ? h("span", { class: `cover ${pictures.provenance}` },
      h("img", { src: pictures.cover, alt: "", loading: "lazy", decoding: "async" }), badge(pictures.provenance))
    : h("span", { class: "plate", "aria-hidden": "true" }, h("span", {}, subset.labels.join(" · ")));
  const note = pictures && pictures.provenance !== "verified" ? `, ${pictures.provenance} pictures` : "";
  return h("li", {}, h("a", { class: "card", href: `#/subset/${subset.flag}`, "aria-label": `${subset.name}: ${subset.modality}${note}` },
    picture,
    h("span", { class: "name" }, subset.name, h("em", {}, subset.ndim === 3 ? "3D" : subset.channels === 3 ? "RGB" : "gray")),
    h("span", { class: "about" }, subset.modality),
    h("span", { class: "facts" }, `${plural(rows, subset.ndim === 3 ? "volume" : "image")} · `
      + `${subset.labels.length} ${subset.task === "multi-label" ? "findings" : "classes"}`),
    labels.length ? h("span", { class: "hits" }, ...labels.slice(0, 4).map((label) => h("mark", {}, label))) : null));
}
