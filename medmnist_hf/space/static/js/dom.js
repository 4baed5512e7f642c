// Elements from plain values. Texts become text nodes, so no name in a data file can run as markup.

/** An element with attributes, properties that start with "on", and children: elements or texts. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace the content of an element by those children that exist. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** A link to another site; an address that is not one of the web is shown as text. */
export function outside(address, text) {
  if (!/^https:\/\//.test(address)) return h("span", {}, text);
  return h("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, text);
}

/** A labeled select; options are pairs of value and text. */
export function select(label, options, value, change) {
  const list = options.map(([key, text]) => h("option", { value: key, selected: key === value }, text));
  return h("label", { class: "field" }, h("span", {}, label),
    h("select", { onchange: (event) => change(event.target.value) }, ...list));
}

/** Buttons of which one is pressed. */
export function segments(label, options, value, change) {
  return h("div", { class: "segments", role: "group", "aria-label": label }, ...options.map(([key, text]) =>
    h("button", { type: "button", "aria-pressed": String(key === value), onclick: () => change(key) }, text)));
}

export const count = (number) => number.toLocaleString("en-US");

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

const loaded = new Map();

/** The content of a JSON file of this site; each is loaded once, unless that fails. */
export function load(path) {
  if (!loaded.has(path)) {
    loaded.set(path, fetch(path).then((answer) => {
      if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
      return answer.json();
    }).catch((error) => {
      loaded.delete(path); // the next view tries again
      throw error;
    }));
  }
  return loaded.get(path);
}

/** What stands in place of something that cannot be shown. */
export function failure(what, error) {
  return h("p", { class: "error", role: "alert" }, `${what} cannot be shown: ${error.message}`);
}

/** Show one tile of a sprite as the background of an element; `place` is column and line. */
export function showTile(element, facts, place) {
  const [column, line] = place;
  element.style.backgroundImage = `url("${facts.sprite}")`;
  element.style.backgroundSize = `${facts.columns * 100}% ${facts.down * 100}%`;
  element.style.backgroundPosition = `${share(column, facts.columns)}% ${share(line, facts.down)}%`;
}

function share(index, number) {
  return number > 1 ? (100 * index) / (number - 1) : 0;
}

/** Column and line of an image in a sprite; of a volume, of one slice. */
export function placeOf(facts, index, slice = 0) {
  return facts.depth > 1 ? [slice, index] : [index % facts.columns, Math.floor(index / facts.columns)];
}

/** The names of the labels of a row. */
export function names(subset, ids) {
  const name = (label) => (/^\d+$/.test(label) ? `label ${label}` : label);
  return ids.length ? ids.map((id) => name(subset.labels[id])).join(", ") : "no finding";
}

/** Badge for data that is not verified; nothing otherwise. */
export function badge(provenance) {
  return provenance === "verified" ? null : h("span", { class: `badge ${provenance}` }, provenance);
}
