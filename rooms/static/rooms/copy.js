/*
 * What a page shows with a script only: buttons that copy their `data-copy`, and the link to the admin for staff who
 * are logged in. Both have their space already, so that nothing moves. The page is the same for everybody; who is
 * staff says a cookie that the login sets, which opens nothing by itself.
 */

if (navigator.clipboard) {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "copied";
      } catch {
        button.textContent = "not allowed"; // by the browser
      }
      setTimeout(() => (button.textContent = label), 2000);
    });
  }
}

const cookies = document.cookie.split("; ");
for (const link of document.querySelectorAll("a[data-cookie]")) {
  link.hidden = !cookies.includes(`${link.dataset.cookie}=1`);
}
