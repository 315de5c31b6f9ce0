// The reference writer: the provider's own code, as its SDK carries it, applies events to a Redis. It reads one JSON object a
// line on stdin, {"prefix", "event"}, an event being in the shapes of the provider's GraphQL subscriptions, and answers each
// one, when all is stored, with a line {"errors"}: what the code logged as errors, which it swallows.
//
// Arguments: a JSON object {"host", "port"}: the Redis.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { RedisCacheService } = require('@stigg/node-server-sdk/dist/services/cache/redisCacheService');
const { RedisEntitlementsService } = require('@stigg/node-server-sdk/dist/services/redisEntitlementsService');

const { host, port } = JSON.parse(process.argv[2]);
let errors = [];
const logger = { log() {}, debug() {}, error: (text, details) => errors.push(details instanceof Error ? `${text} ${details.message}` : text) };
const instrumentation = { trackHit() {}, trackMiss() {}, trackRedisClientError() {} };

const writers = new Map();

// connected waits for the Redis. The SDK itself waits for 250 ms and goes on without; a busy machine needs longer.
async function connected(cache) {
  for (const end = Date.now() + 60_000; !cache.isClientConnected() && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function writer(prefix) {
  let w = writers.get(prefix);
  if (!w) {
    const options = { redis: { host, port, environmentPrefix: prefix }, entitlementsTimeout: 1000 };
    const cache = new RedisCacheService(options, logger, instrumentation);
    await cache.waitForInitialization();
    await connected(cache);
    w = new RedisEntitlementsService(cache, {}, logger, null, 1000);
    writers.set(prefix, w);
  }
  return w;
}

async function apply(w, event) {
  switch (event.__typename) {
    case 'EntitlementsUpdated':
      await w.setEntitlements({
        entitlements: event.entitlements,
        customerId: event.customerId,
        resourceId: event.resourceId ?? undefined,
      });
      return;
    case 'UsageUpdated': {
      const { customerId, resourceId, featureId, currentUsage, usagePeriodStart, usagePeriodEnd } = event.usage;
      await w.updateFeatureUsage({
        customerId,
        resourceId,
        featureId,
        currentUsage,
        usagePeriodStart,
        usagePeriodEnd,
        timestamp: event.entitlement.usageUpdatedAt,
      });
      return;
    }
    default:
      throw new Error(`the reference writer knows no ${event.__typename}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { prefix, event } = JSON.parse(line);
  errors = [];
  await apply(await writer(prefix), event);
  console.log(JSON.stringify({ errors }));
}
process.exit(0);
