// The frame: top bar with the health sentence, rail with the pages, banner, page.
import { signal } from "@preact/signals";
import { census } from "./fleet";
import { duration } from "./format";
import { health, STALE_MS } from "./health";
import { lang, setLang, t } from "./i18n";
import { Link, Mark, Teach } from "./parts/bits";
import { pages, type Page } from "./pages/registry";
import { about, connection, heard, layerState, quarter, second } from "./state";
import { cycleTheme, theme } from "./theme";
import type { State } from "./types";
import { page } from "./url";

const NARROW = "weir.rail";
const narrow = signal(localStorage.getItem(NARROW) === "narrow");

export function App() {
  const current = pages.find((entry) => entry.id === page.value);
  document.title = current ? `${t(current.title)} · weir` : "weir";
  return (
    <div class={narrow.value ? "frame narrow" : "frame"}>
      <a class="skip" href="#content">{t("skip")}</a>
      <TopBar />
      <Rail />
      <main id="content" tabIndex={-1}>
        <Banner />
        {current ? <Content entry={current} /> : <NoPage />}
      </main>
    </div>
  );
}

function TopBar() {
  const { state, text } = health.value;
  return (
    <header class="top">
      <Link to="/" class="brand">weir</Link>
      <p class="health" role="status" title={text}><Mark state={state} /> <span>{text}</span></p>
      <span class="spring" />
      {about.value?.durable === false && <span class="tag warning" title={t("durable.no")}>▲ {t("relaxed")}</span>}
      {about.value && <span class="tag" title={about.value.brokers.join(", ")}>{t(`mode.${about.value.mode}`)}</span>}
      <Age />
      <button class="ghost" onClick={() => setLang(lang.value === "zh" ? "en" : "zh")} lang={lang.value === "zh" ? "en" : "zh-CN"} title={t("language")}>
        {lang.value === "zh" ? "EN" : "中文"}
      </button>
      <button class="ghost" onClick={cycleTheme} aria-label={t("theme", { name: t(`theme.${theme.value}`) })} title={t("theme", { name: t(`theme.${theme.value}`) })}>◐</button>
    </header>
  );
}

/** How old the newest thing shown is. */
function Age() {
  const age = heard.any_ms ? Math.max(0, quarter.value - heard.any_ms) : null;
  const { state } = connection.value;
  const mark: State = state === "live" ? ((age ?? 0) > STALE_MS ? "warning" : "ok") : state === "lost" ? "critical" : "unknown";
  const shown = age === null ? "–" : age < 10_000 ? t("unit.s", { n: (age / 1000).toFixed(1) }) : duration(age);
  return <span class="age" title={t("age.title")}><Mark state={mark} /> {t(`link.${state}`)} · <span class="digits">{shown}</span></span>;
}

function Rail() {
  return (
    <nav class="rail" aria-label={t("pages")}>
      {pages.map((entry) => {
        const badge = entry.badge?.() ?? 0;
        const off = entry.layer !== null && layerState(entry.layer)?.on === false;
        return (
          <Link key={entry.id} to={`/${entry.id}`} current={entry.id === page.value} class={off ? "off" : ""} title={t(entry.title)}>
            <span class="name">{t(entry.title)}</span>
            <span class="initial" aria-hidden="true">{t(entry.title).slice(0, 1)}</span>
            {off && <span class="dim">{t("rail.off")}</span>}
            {badge > 0 && <span class="badge">{badge}</span>}
          </Link>
        );
      })}
      <span class="spring" />
      <button class="ghost fold" aria-expanded={!narrow.value} aria-label={t("rail.fold")} title={t("rail.fold")}
        onClick={() => {
          narrow.value = !narrow.value;
          localStorage.setItem(NARROW, narrow.value ? "narrow" : "wide");
        }}>{narrow.value ? "»" : "«"}</button>
      {about.value && <span class="version">{about.value.version}</span>}
    </nav>
  );
}

/** A lost connection, with the age of what is still shown. */
function Banner() {
  const link = connection.value;
  if (link.state !== "lost") return null;
  const age = duration(Math.max(1000, second.value - link.since_ms));
  return <p class="banner" role="alert"><Mark state="critical" /> {t("banner.lost", { age, n: link.attempts })}</p>;
}

function Content({ entry }: { entry: Page }) {
  const layer = entry.layer === null ? null : layerState(entry.layer);
  if (entry.layer !== null && layer && !layer.on) return <Off entry={entry} layer={entry.layer} turnOn={layer.turn_on} />;
  const View = entry.view;
  const stale = connection.value.state === "lost";
  void census.value;
  return <div class={stale ? "content stale" : "content"}><View /></div>;
}

function Off({ entry, layer, turnOn }: { entry: Page; layer: string; turnOn: string }) {
  return (
    <div class="content">
      <Teach title={t("layer.off.title", { page: t(entry.title), name: layer })} command={turnOn}>
        {turnOn ? t("layer.off.how") : t("layer.unknown")}
      </Teach>
    </div>
  );
}

function NoPage() {
  return (
    <div class="content">
      <Teach title={t("nopage", { page: `/${page.value}` })}>
        {pages.map((entry) => <Link key={entry.id} to={`/${entry.id}`} class="button">{t(entry.title)}</Link>)}
      </Teach>
    </div>
  );
}
