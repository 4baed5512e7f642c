// Leaderboards. Ranks are read from the file; this page only chooses a board and the order of its lines.

import { failure, h, load, outside, plural, put, select, svg } from "./dom.js";

const COLUMNS = [
  ["auc_rank", "AUC place", "number"], ["method", "Method", "text"], ["auc", "AUC", "number"], ["acc", "ACC", "number"],
  ["acc_rank", "ACC place", "number"], ["size", "Size", "number"], ["selected_on", "Selected on", "text"], ["seeds", "Seeds", "number"],
];
const BEST_FIRST = new Set(["auc", "acc", "seeds"]);

export async function leaderboard({ facts, query }) {
  const data = await load("data/leaderboard.json");
  const state = {
    subset: (facts.subsets.find((each) => each.flag === query.get("subset")) ?? facts.subsets[0]).flag,
    protocol: query.get("protocol"), size: query.get("size") ?? "", clean: query.get("clean") === "1",
    sort: COLUMNS.some(([key]) => key === query.get("sort")) ? query.get("sort") : "auc", up: query.get("up") === "1",
  };
  const controls = h("div", { class: "controls" });
  const board = h("div", {});
  let of = await load(`data/leaderboard/${state.subset}.json`);

  async function set(changes, focus) {
    Object.assign(state, changes);
    try {
      const next = await load(`data/leaderboard/${state.subset}.json`);
      if (changes.subset && changes.subset !== state.subset) return; // another subset was chosen meanwhile
      of = next;
      draw();
    } catch (error) {
      put(board, failure("This leaderboard", error)); // not the lines of another subset
      return;
    }
    const words = new URLSearchParams(Object.entries({ subset: state.subset, protocol: state.protocol, size: state.size,
      clean: state.clean ? "1" : "", sort: state.sort, up: state.up ? "1" : "" }).filter(([, value]) => value));
    history.replaceState(null, "", `#/leaderboard?${words}`);
    if (focus) document.querySelector(focus)?.focus();
  }

  function draw() {
    const { results, boards } = of;
    const protocols = data.protocols.filter((each) => boards[each.name]);
    if (!Object.hasOwn(boards, state.protocol ?? "")) state.protocol = protocols[0]?.name ?? "";
    const choices = boards[state.protocol] ?? [];
    const sizes = [...new Set(choices.map((each) => each.size).filter((size) => size !== null))];
    if (!sizes.includes(Number(state.size))) state.size = "";
    const chosen = choices.find((each) => each.clean === state.clean && String(each.size ?? "") === state.size);
    const rules = data.protocols.find((each) => each.name === state.protocol);
    put(controls,
      select("Subset", facts.subsets.map((each) => [each.flag, each.name]), state.subset, (subset) => set({ subset }, ".controls select")),
      select("Protocol", protocols.map((each) => [each.name, each.name]), state.protocol, (protocol) => set({ protocol }, ".controls label:nth-of-type(2) select")),
      sizes.length ? select("Size", [["", "All sizes"], ...sizes.map((size) => [String(size), String(size)])], state.size,
        (size) => set({ size }, ".controls label:nth-of-type(3) select")) : null,
      h("label", { class: "check" }, h("input", { type: "checkbox", checked: state.clean,
        onchange: (event) => set({ clean: event.target.checked }, ".controls input") }), "Only results with known selection and training"));
    put(board, chosen ? lines(data, results, rules, chosen) : h("p", {}, "No results are published for this subset."));
  }

  function lines(file, results, rules, chosen) {
    const ranked = chosen.ranked.map(([index, auc, acc]) => ({ ...results[index], auc_rank: auc, acc_rank: acc }));
    const fenced = chosen.fenced.map((index) => ({ ...results[index], auc_rank: null, acc_rank: null }));
    const scales = { auc: scale([...ranked, ...fenced], "auc"), acc: scale([...ranked, ...fenced], "acc") };
    const body = (list) => sorted(list).map((row) => line(file, row, scales));
    const head = h("tr", { role: "row" }, ...COLUMNS.map(([key, text, kind]) => h("th", { scope: "col", role: "columnheader", class: kind,
      "aria-sort": state.sort === key ? (state.up ? "ascending" : "descending") : null },
    h("button", { type: "button", id: `sort-${key}`, onclick: () => set(state.sort === key ? { up: !state.up } : { sort: key, up: !BEST_FIRST.has(key) }, `#sort-${key}`) },
      text, h("span", { class: "arrow", "aria-hidden": "true" }, state.sort === key ? (state.up ? "▲" : "▼") : "")))));
    const wide = String(COLUMNS.length);
    return [
      h("p", { class: "rules" }, h("strong", {}, rules.title[0].toUpperCase() + rules.title.slice(1) + ". "), rules.description),
      h("p", { class: "found", role: "status" }, `${plural(ranked.length, "comparable result")}`
        + (fenced.length ? `, ${fenced.length} selected on test` : "") + (chosen.left_out ? `, ${chosen.left_out} left out` : "")),
      h("table", { class: "board", role: "table" },
        h("caption", {}, `Results with intervals of ${file.errors} standard errors. Results within ${file.errors} standard errors of each other share a place.`),
        h("thead", { role: "rowgroup" }, head),
        h("tbody", { role: "rowgroup" }, ...(ranked.length ? body(ranked)
          : [h("tr", { role: "row" }, h("td", { colspan: wide, role: "cell" }, "No comparable results."))])),
        fenced.length ? h("tbody", { class: "fenced", role: "rowgroup" },
          h("tr", { role: "row", class: "fence" }, h("th", { colspan: wide, scope: "rowgroup", role: "rowheader" }, "Selected on the test split, so not ranked")),
          ...body(fenced)) : null),
      chosen.notes.length ? h("details", { class: "notes", open: chosen.notes.length < 4 },
        h("summary", {}, `Before you compare: ${plural(chosen.notes.length, "note")}`),
        h("ul", {}, ...chosen.notes.map((text) => h("li", {}, text)))) : null,
    ].filter(Boolean);
  }

  function sorted(list) {
    const value = (row) => (["auc", "acc"].includes(state.sort) ? row[state.sort]?.[0] : row[state.sort]);
    return [...list].sort((one, two) => {
      const [a, b] = [value(one), value(two)];
      if (a === b) return 0;
      if (a === null || a === undefined) return 1;
      if (b === null || b === undefined) return -1;
      return (a < b ? -1 : 1) * (state.up ? 1 : -1);
    });
  }

  draw();
  return {
    content: [h("div", { class: "heading" }, h("h1", {}, "Leaderboard"),
      h("p", {}, "Published results, compared only where the data, the pretraining and the training are alike.")), controls, board],
    title: "Leaderboard · MedMNIST",
  };
}

function line(file, row, scales) {
  const source = file.sources[row.source] ?? { url: "" };
  const facts = [["Pretraining", row.pretraining], ["Training", row.adaptation], ["Release", row.release], ["Test rows", row.test_rows.toLocaleString("en-US")],
    ["Where", row.locator], ["Recomputed by", row.recomputed_by], ["Note", row.note]].filter(([, text]) => text);
  return h("tr", { role: "row" },
    place(row.auc_rank, "AUC place"),
    h("th", { scope: "row", role: "rowheader", class: "method" }, h("details", {}, h("summary", {}, row.method),
      h("dl", {}, ...facts.flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]))),
    h("div", { class: "source" }, outside(source.url, source.url ? source.title : row.locator))),
    score(row.auc, scales.auc, "AUC"), score(row.acc, scales.acc, "ACC"), place(row.acc_rank, "ACC place"),
    cell("number", "Size", String(row.size)), cell("", "Selected on", row.selected_on),
    cell("number", "Seeds", row.seeds ? String(row.seeds) : "unknown"));
}

/** A cell; where the table is narrow, its heading is shown in it. */
function cell(kind, heading, ...children) {
  return h("td", { class: kind, role: "cell", "data-heading": heading }, ...children);
}

function place(rank, heading) {
  return cell(`number place${rank === 1 ? " first" : ""}`, heading, rank === null || rank === undefined ? "–" : String(rank));
}

function scale(rows, key) {
  const values = rows.map((row) => row[key]).filter(Boolean);
  return [Math.min(...values.map((each) => each[1])), Math.max(...values.map((each) => each[2]))];
}

/** A score with its interval in digits, and as a bar on the scale of the board. */
function score(value, [low, high], heading) {
  if (!value) return cell("number score", heading, "–");
  const [middle, from, to] = value;
  const x = (number) => 1 + (98 * (number - low)) / (high - low || 1);
  return cell("number score", heading, h("span", {}, middle.toFixed(3)),
    h("small", {}, `${from.toFixed(3)}–${to.toFixed(3)}`),
    svg("svg", { viewBox: "0 0 100 8", "aria-hidden": "true", preserveAspectRatio: "none" },
      svg("line", { x1: x(from), x2: x(to), y1: 4, y2: 4 }), svg("rect", { x: x(middle) - 1.5, y: 0, width: 3, height: 8 })));
}
