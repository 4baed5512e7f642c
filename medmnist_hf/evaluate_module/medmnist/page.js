// The form: reads two files or texts, and shows their scores. Nothing leaves the browser.

import { readLabels, readPredictions, score } from "./score.js";

const of = (id) => document.getElementById(id);
const form = of("form");
const answer = of("answer");

for (const name of ["predictions", "labels"]) {
  of(`${name}-file`).addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) of(name).value = await file.text();
  });
}

of("example").addEventListener("click", () => {
  of("task").value = "binary-class";
  of("form-of-scores").value = "probabilities";
  of("predictions").value = "0,0.8,0.2\n1,0.1,0.9\n2,0.6,0.4\n3,0.7,0.3\n";
  of("labels").value = "0\n1\n1\n0\n";
  show();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});

function show() {
  answer.className = "";
  try {
    const found = score(readPredictions(of("predictions").value), readLabels(of("labels").value), of("task").value, of("form-of-scores").value);
    answer.replaceChildren(...results(found));
  } catch (error) {
    answer.className = "error";
    answer.textContent = error.message;
  }
}

function results(found) {
  const list = document.createElement("dl");
  for (const [name, value] of [["AUC", found.auc], ["ACC", found.acc]]) list.append(pair(name, value));
  const left = found.each.filter((one) => one.auc === null).map((one) => one.id);
  const note = document.createElement("p");
  note.textContent = `${found.rows.toLocaleString("en-US")} rows.`
    + (left.length ? ` AUC ${found.auc === null ? "is not defined" : "leaves out some classes"}: no positive or no negative row of class ${left.join(", ")}.` : "");
  const parts = [list, note];
  if (found.each.length > 1) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "AUC of each class";
    const each = document.createElement("ol");
    each.start = 0;
    each.append(...found.each.map((one) => {
      const item = document.createElement("li");
      item.textContent = one.auc === null ? "not defined" : one.auc.toFixed(4);
      return item;
    }));
    details.append(summary, each);
    parts.push(details);
  }
  return parts;
}

function pair(name, value) {
  const group = document.createElement("div");
  const [term, text] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  text.textContent = value === null ? "–" : value.toFixed(4);
  text.title = value === null ? "not defined" : String(value);
  group.append(term, text);
  return group;
}
