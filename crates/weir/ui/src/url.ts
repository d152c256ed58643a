// The address is the state: page, filter, sort order, chosen device, place on the map.
import { computed, signal } from "@preact/signals";

const here = signal(location.pathname + location.search);

addEventListener("popstate", () => {
  here.value = location.pathname + location.search;
});

const url = computed(() => new URL(here.value, location.origin));

/** "map" of "/map?device=17"; the overview is "". */
export const page = computed(() => url.value.pathname.replace(/^\/+|\/+$/g, ""));

export function param(name: string): string {
  return url.value.searchParams.get(name) ?? "";
}

/** Goes to an address of the console. `replace` leaves no entry in the history. */
export function go(to: string, replace = false): void {
  if (to === here.value) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  here.value = to;
}

/** This page's address with some parameters changed; "" removes one. */
export function withParams(changes: Record<string, string>): string {
  const next = new URL(url.value);
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.searchParams.set(name, value);
    else next.searchParams.delete(name);
  }
  // A comma is readable as it is, and allowed in a query.
  return next.pathname + next.search.replace(/%2C/g, ",");
}

export function setParams(changes: Record<string, string>, replace = true): void {
  go(withParams(changes), replace);
}
