// The reference writer: RedisCacheService of the provider's SDK, fed with the events of a recording.
//
//   node reference.mjs ROOT RECORDING EVENTS REDIS_HOST REDIS_PORT CONCURRENCY
//
// It prints what the writing took, as JSON: wall and CPU time in nanoseconds. Reading and parsing are not in it.
import { createReadStream } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

const [root, recording, events, host, port, concurrency] = process.argv.slice(2);
const require = createRequire(join(root, 'test', 'package.json'));
const { RedisCacheService } = require('@stigg/node-server-sdk/dist/services/cache/redisCacheService.js');

const failures = [];
const logger = { log() {}, debug() {}, warn() {}, error: (...what) => failures.push(what.join(' ')) };
const instrumentation = new Proxy({}, { get: () => () => {} });
const ms = (text) => (text === null ? undefined : Date.parse(text));

// entry is an entitlement as the SDK caches it.
function entry(e) {
  return {
    calculatedEntitlement: {
      feature: {
        id: e.feature.refId, featureType: e.feature.featureType, meterType: e.feature.meterType,
        units: e.feature.featureUnits ?? '', unitsPlural: e.feature.featureUnitsPlural ?? '',
      },
      usageLimit: e.usageLimit, hasUnlimitedUsage: e.hasUnlimitedUsage, hasSoftLimit: e.hasSoftLimit,
      enumValues: e.enumValues ?? [],
    },
    featureUsage: {
      resetPeriod: e.resetPeriod, resetPeriodConfiguration: e.resetPeriodConfiguration, currentUsage: e.currentUsage ?? 0,
      usagePeriodAnchor: ms(e.usagePeriodAnchor), usagePeriodStart: ms(e.usagePeriodStart), usagePeriodEnd: ms(e.usagePeriodEnd),
    },
  };
}

function operation(event) {
  if (event.__typename === 'UsageUpdatedV2') {
    const { usage } = event;
    const payload = {
      customerId: event.customerId, featureId: event.entitlementReference.id, resourceId: undefined,
      currentUsage: usage.currentUsage, timestamp: new Date(usage.usageUpdatedAt),
      usagePeriodStart: ms(usage.usagePeriodStart), usagePeriodEnd: ms(usage.usagePeriodEnd),
    };
    return (cache) => cache.updateFeatureUsage(payload);
  }
  const entitlements = new Map(event.entitlements.map((e) => [e.feature.refId, entry(e)]));
  const usage = new Map(event.entitlements.map((e) => [e.feature.refId, ms(e.usageUpdatedAt)]));
  const updated = ms(event.entitlements[0].entitlementUpdatedAt);
  return (cache) => cache.setCustomer(event.customerId, entitlements, undefined, updated, usage);
}

const operations = [];
for await (const line of createInterface({ input: createReadStream(recording) })) {
  operations.push(operation(JSON.parse(JSON.parse(line).payload)));
  if (operations.length === Number(events)) break;
}

const cache = new RedisCacheService(
  { redis: { host, port: Number(port), environmentPrefix: 'bench' }, entitlementsTimeout: 10_000 }, logger, instrumentation);
await cache.waitForInitialization();

const cpu = process.cpuUsage();
const started = process.hrtime.bigint();
let next = 0;
await Promise.all(Array.from({ length: Number(concurrency) }, async () => {
  while (next < operations.length) await operations[next++](cache);
}));
const wall = Number(process.hrtime.bigint() - started);
const { user, system } = process.cpuUsage(cpu);
if (failures.length > 0) {
  console.error(`${failures.length} failures, the first: ${failures[0]}`);
  process.exit(1);
}
process.stdout.write(`${JSON.stringify({ wall, cpu: (user + system) * 1000 })}\n`, () => process.exit(0));
