// The page whose rows are all in its HTML.
const rows = [...document.querySelectorAll(".row")].map((element) => connect(makeRow(element)));
start();

// Inside another page, which has a title of its own: as high as it is, so that only one of them scrolls.
if (window.frameElement) {
  document.documentElement.classList.add("embedded");
  const fit = () => { frameElement.style.height = `${Math.ceil(document.body.getBoundingClientRect().height)}px`; };
  new ResizeObserver(fit).observe(document.body);
}
