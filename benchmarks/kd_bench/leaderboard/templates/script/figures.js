// The figures of one board, drawn when they come into view: a filter need not wait for them.
let drawnBoard = null, wantedBoard = null, inView = false, drawnAcross = false;

function updateFigures() {
  const shown = shownBoards(), select = control("figure-board");
  const ids = shown.map((board) => board.id).join();
  if (select.dataset.shown !== ids) {
    select.dataset.shown = ids;
    const before = select.value;
    select.replaceChildren(...shown.map((board) => make("option", { value: board.id }, board.label)));
    select.value = shown.some((board) => board.id === before) ? before : (shown[0]?.id ?? "");
    select.parentElement.hidden = shown.length < 2;
  }
  chooseFigures();
}

function chooseFigures() {
  wantedBoard = boards.find((board) => board.id === control("figure-board").value) ?? null;
  for (const part of document.querySelectorAll(".found")) part.hidden = part.dataset.name !== wantedBoard?.id;
  control("board-words").textContent = wantedBoard ? `${wantedBoard.label}. ${wantedBoard.words} Protocol hash ${wantedBoard.hash}.` : "";
  if (inView) drawFigures();
}

function drawFigures() {
  if (!drawnAcross && data.across) control("across").append(ranksFigure());
  drawnAcross = true;
  if (drawnBoard === wantedBoard) return;
  drawnBoard = wantedBoard;
  const parts = wantedBoard
    ? [forestFigure(wantedBoard), make("div", { class: "scatters" }, ...Object.keys(wantedBoard.fronts).map((kind) => scatterFigure(wantedBoard, kind)).filter(Boolean))]
    : [];
  control("board-figures").replaceChildren(...parts);
}

function watchFigures() {
  control("figure-board").addEventListener("input", chooseFigures);
  const observer = new IntersectionObserver(([entry]) => {
    inView = entry.isIntersecting;
    if (inView) drawFigures();
  }, { rootMargin: "200px" });
  observer.observe(control("figures"));
  window.addEventListener("beforeprint", drawFigures);
}
