// The page whose rows are all in its HTML.
const rows = [...document.querySelectorAll(".row")].map((element) => connect(makeRow(element)));
start();
