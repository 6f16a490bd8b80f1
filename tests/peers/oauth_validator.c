/*
 * A validator module for OAuth (PostgreSQL documentation, "OAuth Validator Modules"; PostgreSQL 18): it takes the token
 * "good-" followed by the role that the client asks for, and knows the bearer of any other token as nobody.
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/oauth.h"

PG_MODULE_MAGIC;

static bool
validate(const ValidatorModuleState *state, const char *token, const char *role, ValidatorModuleResult *result)
{
	result->authorized = strncmp(token, "good-", 5) == 0 && strcmp(token + 5, role) == 0;
	result->authn_id = pstrdup(result->authorized ? role : "nobody");
	return true;
}

static const OAuthValidatorCallbacks callbacks = {
	PG_OAUTH_VALIDATOR_MAGIC,
	.validate_cb = validate,
};

const OAuthValidatorCallbacks *
_PG_oauth_validator_module_init(void)
{
	return &callbacks;
}
