package entitlement

// This file is the keys of the cache, as the provider's SDKs look for them.

// keySuffix and the other parts of keys, all without the store's prefix.
const (
	customerPrefix = "c_"
	resourcePart   = ":r_"
	featurePart    = ":f_"
	creditPart     = ":credit_"
	metadataSuffix = ":metadata"
	versionSuffix  = "#timestamp"
)

// CustomerKey returns the key of a customer's entitlements, or of those of one of its resources; an empty resource
// means the customer itself. Ids are put in as they are.
func CustomerKey(customer, resource string) string {
	return resourceKey(customerPrefix+customer, resource)
}

// TaggedCustomerKey returns what CustomerKey does, with the customer's id as a hash tag, c_{customer}: in a Redis
// Cluster all keys of a customer are in one slot then ([Options].HashTags). Only your own readers look for such
// keys, not the provider's SDKs.
func TaggedCustomerKey(customer, resource string) string {
	return resourceKey(customerPrefix+"{"+customer+"}", resource)
}

func resourceKey(key, resource string) string {
	if resource != "" {
		key += resourcePart + resource
	}
	return key
}

// MetadataKey returns the key of the metadata that belongs to a customer key.
func MetadataKey(customerKey string) string { return customerKey + metadataSuffix }

// FeatureUsageKey returns the key of a feature's usage under a customer key.
func FeatureUsageKey(customerKey, feature string) string { return customerKey + featurePart + feature }

// CreditUsageKey returns the key of a credit's usage under a customer key.
func CreditUsageKey(customerKey, currency string) string { return customerKey + creditPart + currency }
