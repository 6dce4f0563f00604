/*
 * The shortlist, kept in this browser: a "keep" button on every room, and a link that opens the kept ones side by
 * side, which can be shared. Copy buttons as well.
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

const bar = document.createElement("a");
bar.className = "shortlist";
document.querySelector("header.site nav").prepend(bar);

const show = () => {
  const codes = read();
  bar.hidden = codes.length === 0;
  bar.textContent = `★ ${codes.length} kept`;
  bar.href = `/rooms?filter_code__in=${codes.join(",")}&view=table`;
  for (const button of document.querySelectorAll("button.keep")) {
    const kept = codes.includes(button.dataset.room);
    const star = kept ? "★" : "☆";
    button.textContent = button.closest(".card") ? star : `${star} ${kept ? "kept" : "keep"}`;
    button.setAttribute("aria-pressed", String(kept));
  }
};

const enhance = () => {
  for (const room of document.querySelectorAll(".card[data-code], .actions[data-code]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "keep";
    button.dataset.room = room.dataset.code;
    button.setAttribute("aria-label", `Keep: ${room.dataset.title}, ${room.dataset.price}`);
    button.addEventListener("click", () => {
      const codes = read();
      write(codes.includes(room.dataset.code) ? codes.filter((code) => code !== room.dataset.code) : [...codes, room.dataset.code]);
      show();
    });
    room.append(button);
  }
  for (const copied of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy";
    button.setAttribute("aria-label", `Copy ${copied.dataset.copy}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(copied.dataset.copy);
      button.textContent = "copied";
    });
    copied.after(" ", button);
  }
  show();
};

enhance();
document.addEventListener("results", enhance);
addEventListener("storage", show); // another tab has changed it
