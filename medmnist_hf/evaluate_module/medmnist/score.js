// The official AUC and ACC of MedMNIST, as medmnist_hf.scoring.official computes them. A test holds both to equal values.

export const TASKS = ["binary-class", "multi-class", "ordinal-regression", "multi-label"];

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const ROUNDING = 1e-6; // distance outside 0..1 up to which a score is still a probability

/** The numbers and cells of the lines that are not blank. */
function lines(text) {
  return text.replace(/^\uFEFF/, "").split(/\r?\n/)
    .map((line, index) => [index + 1, line.split(",").map((cell) => cell.trim())])
    .filter(([, cells]) => cells.length > 1 || cells[0] !== "");
}

const short = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);

/** Scores of a prediction file, in the order of its row numbers: one array per row. */
export function readPredictions(text) {
  const rows = [];
  let columns = 0;
  let number = 0;
  for (const [line, [index, ...cells]] of lines(text)) {
    if (!/^\d{1,9}$/.test(index)) {
      throw new Error(`Predictions: line ${line} begins with “${short(index)}”, not a row number: write index,score,… without a header.`);
    }
    columns ||= cells.length;
    if (!cells.length || cells.length !== columns) {
      throw new Error(`Predictions: line ${line} has ${cells.length} scores, the first line ${columns}: every line needs as many, at least one.`);
    }
    const wrong = cells.find((cell) => !NUMBER.test(cell) || !Number.isFinite(Number(cell)));
    if (wrong !== undefined) throw new Error(`Predictions: line ${line} has “${short(wrong)}” as a score: write finite numbers, with a decimal point.`);
    if (rows[Number(index)]) throw new Error(`Predictions: row ${index} appears twice.`);
    rows[Number(index)] = cells.map(Number);
    number += 1;
  }
  if (!number) throw new Error("Predictions: there are no scores.");
  if (rows.length !== number) {
    throw new Error(`Predictions: row ${rows.findIndex((row) => row === undefined)} is missing: there is one line per row of the split, counted from 0.`);
  }
  return rows;
}

/** Labels: one line per row, or a CSV that medmnist-hf export or the official package wrote, of which the test rows are used. */
export function readLabels(text) {
  const found = lines(text);
  const exported = found.some(([, [split]]) => ["TRAIN", "VAL", "TEST"].includes(split));
  const rows = exported ? found.filter(([, [split]]) => split === "TEST").map(([line, cells]) => [line, cells.slice(2)]) : found;
  if (!rows.length) throw new Error(exported ? "Labels: there are no lines of the test split." : "Labels: there are no labels.");
  return rows.map(([line, cells]) => {
    const wrong = cells.find((cell) => !NUMBER.test(cell) || !Number.isInteger(Number(cell)) || Number(cell) < 0);
    if (!cells.length || wrong !== undefined || cells.length !== rows[0][1].length) {
      throw new Error(`Labels: line ${line} is not a class id, or 0 and 1 for each finding: “${short(cells.join(","))}”`);
    }
    return cells.map(Number);
  });
}

/** Probabilities of logits: softmax, or the logistic function for one column and for findings. */
function probabilities(row, task) {
  if (task === "multi-label" || row.length === 1) {
    return row.map((value) => (value >= 0 ? 1 : Math.exp(value)) / (1 + Math.exp(-Math.abs(value))));
  }
  const largest = Math.max(...row);
  const powers = row.map((value) => Math.exp(value - largest));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
}

/** Area under the ROC curve: pairs are counted in whole numbers, ties as one half; null without pairs. */
export function auc(column, positive) {
  const order = Array.from(column.keys()).sort((one, two) => column[one] - column[two]);
  let hits = 0;
  let below = 0;
  let twice = 0;
  for (let start = 0; start < order.length;) {
    let [stop, here] = [start, 0];
    for (; stop < order.length && column[order[stop]] === column[order[start]]; stop += 1) here += positive[order[stop]] ? 1 : 0;
    const others = stop - start - here;
    twice += here * (2 * below + others);
    hits += here;
    below += others;
    start = stop;
  }
  return hits && below ? twice / (2 * hits * below) : null;
}

/**
 * Score predictions.
 * @param {number[][]} scores one array of scores per row
 * @param {number[][]} labels class id of each row, or 0 and 1 for each finding
 * @param {string} task one of TASKS
 * @param {string} form "probabilities", "logits", or "any" to use the scores unchanged
 * @returns {{auc: ?number, acc: number, rows: number, each: {id: number, auc: ?number}[]}} null where AUC is not defined
 */
export function score(scores, labels, task, form = "probabilities") {
  if (!TASKS.includes(task)) throw new Error(`Unknown task “${short(task)}”.`);
  if (scores.length !== labels.length) throw new Error(`There are ${scores.length} predictions but ${labels.length} labels: both need one line per row of the split.`);
  const [columns, width] = [scores[0].length, labels[0].length];
  const [binary, findings] = [task === "binary-class", task === "multi-label"];
  if (binary ? columns > 2 : !findings && columns < 2) throw new Error(`The ${task} task needs ${binary ? "1 or 2 scores" : "2 or more scores"} per row, not ${columns}.`);
  if (width !== (findings ? columns : 1)) {
    throw new Error(findings ? `Labels: the multi-label task needs 0 or 1 for each of the ${columns} findings, not ${width} numbers per row.`
      : `Labels: the ${task} task needs one class id per row, not ${width} numbers.`);
  }
  const classes = binary ? 2 : columns;
  const wrong = labels.findIndex((row) => row.some((value) => value >= (findings ? 2 : classes) || !Number.isInteger(value)));
  if (wrong >= 0) throw new Error(`Labels: row ${wrong} holds ${labels[wrong].join(",")}: ${findings ? "findings are 0 or 1" : `class ids are 0 to ${classes - 1}`}.`);
  if (form === "probabilities" && scores.some((row) => row.some((value) => value < -ROUNDING || value > 1 + ROUNDING))) {
    throw new Error("Some scores are outside 0 to 1: choose “logits” if they are, or “any scores”.");
  }
  const table = form === "logits" ? scores.map((row) => probabilities(row, task)) : scores;
  const ids = binary ? [1] : Array.from({ length: columns }, (_, id) => id);
  const each = ids.map((id) => {
    const place = binary ? columns - 1 : id;
    return { id, auc: auc(table.map((row) => row[place]), labels.map((row) => (findings ? row[id] === 1 : row[0] === id))) };
  });
  const defined = each.filter((one) => one.auc !== null);
  const right = table.reduce((sum, row, index) => sum + hits(row, labels[index], binary, findings), 0);
  return {
    auc: defined.length ? defined.reduce((sum, one) => sum + one.auc, 0) / defined.length : null,
    acc: right / (table.length * (findings ? columns : 1)),
    rows: table.length,
    each,
  };
}

/** Number of right decisions in a row: scores above one half, or the first largest score. */
function hits(row, label, binary, findings) {
  if (findings) return row.reduce((sum, value, id) => sum + ((value > 0.5 ? 1 : 0) === label[id] ? 1 : 0), 0);
  const chosen = binary ? (row[row.length - 1] > 0.5 ? 1 : 0) : row.indexOf(Math.max(...row));
  return chosen === label[0] ? 1 : 0;
}
