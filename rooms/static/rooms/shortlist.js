/*
 * The shortlist, kept in this browser: a "keep" button on every room, and a link that opens the kept ones side by
 * side, which can be shared.
 */

const KEY = "shortlist";
const MOST = 20;

const read = () => {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
};
const write = (codes) => localStorage.setItem(KEY, JSON.stringify(codes.slice(-MOST)));

const bar = document.querySelector("a.shortlist");

const show = () => {
  const codes = read();
  bar.hidden = codes.length === 0;
  bar.querySelector(".number").textContent = codes.length;
  bar.href = `/rooms?filter_code__in=${codes.join(",")}&view=table`;
  for (const button of document.querySelectorAll("button.keep")) {
    const kept = codes.includes(button.dataset.room);
    const star = kept ? "★" : "☆";
    button.textContent = button.closest(".card, tr") ? star : `${star} ${kept ? "kept" : "keep"}`;
    button.setAttribute("aria-pressed", String(kept));
  }
};

const enhance = () => {
  for (const room of document.querySelectorAll("[data-code][data-title]")) {
    const button = room.querySelector("button.keep") ?? document.createElement("button");
    button.type = "button";
    button.className = "keep";
    button.hidden = false;
    button.dataset.room = room.dataset.code;
    button.setAttribute("aria-label", `Keep: ${room.dataset.title}, ${room.dataset.price}`);
    button.addEventListener("click", () => {
      const codes = read();
      write(codes.includes(room.dataset.code) ? codes.filter((code) => code !== room.dataset.code) : [...codes, room.dataset.code]);
      show();
    });
    if (!button.parentElement) room.append(button);
  }
  show();
};

enhance();
document.addEventListener("results", enhance);
addEventListener("storage", show); // another tab has changed it
