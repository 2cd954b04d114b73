"use strict";

// The data that the page carries: one array a column over all rows, boards one after the other, best row first.
const data = JSON.parse(document.getElementById("data").textContent);
const { boards, rows, shared, tasks } = data;
const rowCount = rows.method.length;
const FLAGS = { extra: 1, withdrawn: 2, challenged: 4, leading: 8, baseline: 16, corrected: 32 };

const boardOf = new Uint32Array(rowCount);
let start = 0;
for (const [number, board] of boards.entries()) {
  Object.assign(board, { number, first: start, pair: board.place[1], label: `${board.protocol}: ${board.teacher} → ${board.student}` });
  boardOf.fill(number, start, start + board.count);
  start += board.count;
}

// what stands in the way of a directory's name becomes a dash, as in the folders of the results
const slug = (name) => name.replace(/[:/]/g, "-");
const boardAt = (row) => boards[boardOf[row]];
const has = (row, flag) => (rows.flags[row] & flag) !== 0;

function pathOf(row) {
  const [protocol, pair] = boardAt(row).place;
  return `${protocol}/${slug(rows.method[row])}/${pair}`;
}

// Details are read board by board, when the first of them is looked at.
const readDetails = new Map();
function detailsOf(board) {
  if (!readDetails.has(board)) {
    readDetails.set(board, JSON.parse(document.getElementById(`details-${board.number}`).textContent));
  }
  return readDetails.get(board);
}

const detailAt = (row, kind) => detailsOf(boardAt(row))[kind][row - boardAt(row).first];
const pooledAt = (row, kind) => data.pool[detailAt(row, kind)];

function quoteOf(row) {
  const board = boardAt(row);
  return board.quotes ? board.quotes[row - board.first] : null;
}
