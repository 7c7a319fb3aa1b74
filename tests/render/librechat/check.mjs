// Reads a librechat.yaml on stdin. Prints what LibreChat's schema has against it, a line each, and exits 1 if there is
// anything. Runs in the folder that has librechat-data-provider, and with it js-yaml, in its node_modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const load = createRequire(resolve("package.json"));
const { configSchema, Constants, endpointSchema } = load("librechat-data-provider");

const complaints = new Set();
const complain = (path, message) => complaints.add(`${path.join(".")}: ${message}`);

// The schema lets any key of an endpoint be missing, and drops keys that it does not know below the top: a typo passes.
function findDropped(given, kept, path) {
  if (given === null || typeof given !== "object") return;
  for (const key of Object.keys(given)) {
    if (kept?.[key] === undefined) complain([...path, key], "unknown key");
    else findDropped(given[key], kept[key], [...path, key]);
  }
}

function check(schema, given, path) {
  const result = schema.safeParse(given);
  if (result.success) findDropped(given, result.data, path);
  else for (const issue of result.error.issues) complain([...path, ...issue.path], issue.message);
}

const config = load("js-yaml").load(readFileSync(0, "utf8"));
check(configSchema.strict(), config, []); // strict at the top, as LibreChat's server itself is
(config.endpoints?.custom ?? []).forEach((endpoint, i) =>
  check(endpointSchema, endpoint, ["endpoints", "custom", i]),
);
if (config.version !== Constants.CONFIG_VERSION) {
  complain(["version"], `LibreChat expects ${Constants.CONFIG_VERSION}`);
}

for (const line of complaints) console.log(line);
process.exitCode = complaints.size > 0 ? 1 : 0;
