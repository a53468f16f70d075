// Opens pages as people do, light and dark, wide and as narrow as a phone, and writes down as JSON what a browser finds:
// violations of axe's rules, requests, errors, and how far a page is wider than its window.
//
//     NODE_PATH=…/node_modules node look.cjs CHROMIUM PAGE… [--screenshots FOLDER]

const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const axe = require("axe-core");
const puppeteer = require("puppeteer-core");

const VIEWS = [
  { name: "light", width: 1200, scheme: "light" },
  { name: "dark", width: 1200, scheme: "dark" },
  { name: "phone", width: 390, scheme: "light" },
  { name: "phone-dark", width: 390, scheme: "dark" },
];

async function look(browser, file, view, screenshots) {
  const page = await browser.newPage();
  const requests = [];
  const errors = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.setViewport({ width: view.width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: view.scheme }]);
  await page.goto(pathToFileURL(file).href);
  if (screenshots) {
    await page.screenshot({ path: path.join(screenshots, `${path.parse(file).name}-${view.name}.png`) });
  }
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
  const beyond = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => window.axe.run());
  await page.close();
  return {
    view: view.name,
    beyond,
    errors,
    requests: requests.filter((url) => !url.startsWith("file:")),
    passes: passes.length,
    violations: violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" | ")}`),
  };
}

async function main() {
  const words = process.argv.slice(2);
  const place = words.indexOf("--screenshots");
  const screenshots = place < 0 ? "" : words.splice(place, 2)[1];
  const [executablePath, ...files] = words;
  const browser = await puppeteer.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
    protocolTimeout: 600_000,
  });
  const found = [];
  for (const file of files) {
    for (const view of VIEWS) found.push({ file, ...(await look(browser, path.resolve(file), view, screenshots)) });
  }
  await browser.close();
  process.stdout.write(JSON.stringify(found, null, 1));
}

main();
