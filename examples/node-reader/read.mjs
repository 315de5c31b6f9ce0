// Reads one entitlement as an application does: with the provider's real SDK, pointed at the Redis that penstock fills.
//
//   node examples/node-reader/read.mjs CUSTOMER FEATURE [RESOURCE]
//
// It prints HIT and the values when the cache answered, or MISS and why. REDIS_HOST, REDIS_PORT, REDIS_DB and
// ENVIRONMENT_PREFIX point it elsewhere; the defaults are those of configs/quickstart.yaml.
//
// The provider's API is out of reach here on purpose: what is printed comes from Redis, or not at all. In an application, leave
// out baseUri, baseEdgeUri, enableRemoteConfig and entitlementsTimeout, and give your API key.
import { createRequire } from 'node:module';

const [customerId, featureId, resourceId] = process.argv.slice(2);
if (!customerId || !featureId) {
  console.error('usage: node read.mjs CUSTOMER FEATURE [RESOURCE]');
  process.exit(2);
}

const { Stigg, LogLevel } = sdk();
const env = process.env;
const redis = {
  host: env.REDIS_HOST || '127.0.0.1',
  port: Number(env.REDIS_PORT || 6380),
  db: Number(env.REDIS_DB || 0),
  environmentPrefix: env.ENVIRONMENT_PREFIX || 'production',
};
const nowhere = 'http://127.0.0.1:1'; // nothing listens on this port

const stigg = Stigg.initialize({
  apiKey: 'not-a-real-key',
  baseUri: nowhere,
  baseEdgeUri: nowhere,
  realtimeUpdatesEnabled: false, // penstock keeps the cache up to date
  enableRemoteConfig: false,
  entitlementsTimeout: 1000,
  logConfiguration: { logLevel: LogLevel.NONE },
  redis,
});
// What is not in the cache, the SDK asks the API for, which fails here.
let miss = '';
stigg.addListener('networkRequestFailed', () => (miss ||= 'not in the cache'));
stigg.addListener('redisClientError', ({ error }) => (miss = `no Redis: ${error.message || error.code}`));
await stigg.waitForInitialization();

let entitlement = await stigg.getEntitlement({ customerId, featureId, resourceId });
if (entitlement.type === 'METERED') {
  // Asked for by its kind, a metered entitlement accounts for a usage period that has ended.
  entitlement = await stigg.getMeteredEntitlement({ customerId, featureId, resourceId });
}

const what = `${customerId}${resourceId ? ` (${resourceId})` : ''} ${featureId}`;
if (miss) {
  console.log(`MISS  ${what}: ${miss} (${redis.host}:${redis.port}, prefix "${redis.environmentPrefix}")`);
} else {
  console.log(`HIT   ${what}`);
  // The SDK's own fallback means here that the customer is cached, without this feature.
  const { type, isFallback, feature, ...values } = entitlement;
  if (isFallback) {
    console.log('  the customer has no such entitlement');
  } else {
    console.log(`  type: ${type}${feature?.units ? ` (${feature.unitsPlural || feature.units})` : ''}`);
    for (const [name, value] of Object.entries(values)) {
      if (value !== undefined) console.log(`  ${name}: ${value instanceof Date ? value.toISOString() : value}`);
    }
  }
}
// The SDK's close leaves a Redis connection open, which would keep the process alive.
process.exit(miss ? 1 : 0);

// sdk finds the SDK beside this file (make setup-reader, or npm ci), or where make setup installed it for the tests.
function sdk() {
  for (const from of ['./', '../../test/']) {
    try {
      return createRequire(new URL(from, import.meta.url))('@stigg/node-server-sdk');
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  console.error(`The SDK is not installed. Run "make setup-reader" once, or "npm ci" in examples/node-reader.`);
  process.exit(2);
}
