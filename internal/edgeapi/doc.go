// Package edgeapi asks the provider's Edge API what a customer is entitled to: [Client] makes the requests,
// [Refresher] makes few of them on behalf of many events. Whoever embeds penstock meets it as the transform
// refresh_entitlements, so its names are free to change.
package edgeapi
