// How the map holds up with many devices:
//
//   cargo run --release -p weir --example console_demo -- 8090 10000
//   node crates/weir/ui/test/frames.mjs http://127.0.0.1:8090 10000 50
//
// Waits until that many devices are drawn, counts animation frames for ten seconds while the map is
// dragged, prints one JSON line, and fails under the given frames per second.
import { chromium } from "playwright-core";

const [base = "http://127.0.0.1:8090", devices = "10000", least = "50"] = process.argv.slice(2);
const SECONDS = 10;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(`${base}/map`);
  await page.waitForFunction((n) => window.__weir.drawn() >= n, Number(devices) * 0.95, { timeout: 60_000 });
  await page.evaluate(() => window.__weir.latencyReset());
  const counts = () => page.evaluate(() => [window.__weir.frames(), window.__weir.draws()]);
  const before = await counts();
  const counting = page.evaluate(
    (seconds) =>
      new Promise((resolve) => {
        const start = performance.now();
        let [count, last, longest] = [0, start, 0];
        const step = (now) => {
          count += 1;
          longest = Math.max(longest, now - last);
          last = now;
          if (now - start < seconds * 1000) requestAnimationFrame(step);
          else resolve({ fps: count / ((now - start) / 1000), longest_ms: longest });
        };
        requestAnimationFrame(step);
      }),
    SECONDS,
  );
  await drag(page);
  const { fps, longest_ms } = await counting;
  const after = await counts();
  const result = {
    devices: Number(devices),
    drawn: await page.evaluate(() => window.__weir.drawn()),
    fps: Math.round(fps * 10) / 10,
    longest_frame_ms: Math.round(longest_ms),
    position_frames_per_s: (after[0] - before[0]) / SECONDS,
    draws_per_s: (after[1] - before[1]) / SECONDS,
    append_to_pixel: await page.evaluate(() => window.__weir.latency()),
  };
  console.log(JSON.stringify(result));
  if (fps < Number(least)) {
    console.error(`not ok  ${result.fps} frames/s, ${least} wanted`);
    process.exitCode = 1;
  }
} finally {
  await browser.close();
}

/** Back and forth for most of the time, as a person looks around. */
async function drag(page) {
  const end = Date.now() + (SECONDS - 1) * 1000;
  await page.mouse.move(600, 400);
  await page.mouse.down();
  for (let n = 0; Date.now() < end; n += 1) await page.mouse.move(600 + 60 * Math.sin(n / 20), 400 + 30 * Math.cos(n / 20));
  await page.mouse.up();
}
