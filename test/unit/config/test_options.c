/* test_options.c - what src/config/options.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>
#include <uv.h>

#include "config/options.h"

#define ARGUMENTS_MAX 8

/* Kept, as main()'s are. */
static char texts[ARGUMENTS_MAX][64];
static char *arguments[ARGUMENTS_MAX + 1];

/* Parses `line`, whose words are the arguments. */
static int parse(const char *line, enum options_command *command,
		 char error[static CONFIG_ERROR_MAX])
{
	size_t n = 0;

	error[0] = '\0';
	while (*line != '\0') {
		size_t len = strcspn(line, " ");
		snprintf(texts[n], sizeof texts[n], "%.*s", (int)len, line);
		arguments[n] = texts[n];
		n++;
		line += len + (line[len] == ' ');
	}
	arguments[n] = NULL;
	return options_parse(arguments, command, error);
}

static enum options_command parsed(const char *line)
{
	char error[CONFIG_ERROR_MAX];
	enum options_command command;

	if (parse(line, &command, error) != 0)
		fail_msg("%s: %s", line, error);
	return command;
}

static void assert_refused(const char *line, const char *says)
{
	char error[CONFIG_ERROR_MAX];
	enum options_command command;

	if (parse(line, &command, error) != UV_EINVAL)
		fail_msg("%s was accepted", line);
	assert_string_equal(error, says);
}

static int reset(void **state)
{
	static const char *const names[] = {"MAX_BODY", "ISIMUD_MAX_BODY",
					    "HOMEPAGE"};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		unsetenv(names[i]);
	parsed("");
	return 0;
}

/* --- where a value comes from ----------------------------------------------*/

static void what_is_given_nowhere_is_not_set(void **state)
{
	(void)state;
	assert_null(options_get("MAX_BODY"));
}

static void a_variable_with_the_prefix_wins_over_the_plain_one(void **state)
{
	(void)state;
	setenv("MAX_BODY", "1", 1);
	assert_string_equal(options_get("MAX_BODY"), "1");
	setenv("ISIMUD_MAX_BODY", "2", 1);
	assert_string_equal(options_get("MAX_BODY"), "2");
}

static void a_flag_wins_over_the_environment(void **state)
{
	(void)state;
	setenv("MAX_BODY", "1", 1);
	setenv("ISIMUD_MAX_BODY", "2", 1);
	parsed("--max-body 3");
	assert_string_equal(options_get("MAX_BODY"), "3");
	parsed("--max-body=4");
	assert_string_equal(options_get("MAX_BODY"), "4");
	parsed("--max-body=");
	assert_string_equal(options_get("MAX_BODY"), "");
}

static void of_a_flag_given_twice_the_last_counts(void **state)
{
	(void)state;
	parsed("--max-body 3 --port 80 --max-body=4");
	assert_string_equal(options_get("MAX_BODY"), "4");
	assert_string_equal(options_get("PORT"), "80");
}

static void what_is_a_value_is_not_taken_for_a_flag(void **state)
{
	(void)state;
	parsed("--password=--port=80 --ip -1");
	assert_string_equal(options_get("PASSWORD"), "--port=80");
	assert_string_equal(options_get("IP"), "-1");
	assert_null(options_get("PORT"));
	parsed("--password healthcheck");
	assert_string_equal(options_get("PASSWORD"), "healthcheck");
	parsed("--password=a=b");
	assert_string_equal(options_get("PASSWORD"), "a=b");
}

static void a_boolean_takes_a_value_too(void **state)
{
	(void)state;
	parsed("--homepage false");
	assert_string_equal(options_get("HOMEPAGE"), "false");
	assert_refused("--homepage", "--homepage needs a value");
}

/* --- what is refused -------------------------------------------------------*/

static void a_flag_without_a_value_is_refused(void **state)
{
	(void)state;
	assert_refused("--port", "--port needs a value");
	assert_refused("--ip 1.1.1.1 --port", "--port needs a value");
	assert_refused("--port --ip 1.1.1.1", "--port needs a value");
}

static void an_unknown_flag_is_refused_and_its_value_not_shown(void **state)
{
	(void)state;
	assert_refused("--pasword=hush",
		       "--pasword is not a setting; see --help");
	assert_refused("--pasword hush",
		       "--pasword is not a setting; see --help");
	assert_refused("--port 80 --por 80",
		       "--por is not a setting; see --help");
	assert_refused("--PORT 80", "--PORT is not a setting; see --help");
	assert_refused("--max_body 1", "--max_body is not a setting; see "
				       "--help");
	assert_refused("--isimud-port 80", "--isimud-port is not a setting; "
					   "see --help");
	assert_refused("--help=1", "--help is not a setting; see --help");
	assert_refused("--", "-- is not a setting; see --help");
	assert_refused("--=1", "-- is not a setting; see --help");
}

static void any_other_argument_is_refused_by_its_place(void **state)
{
	(void)state;
	assert_refused("hush", "argument 1 is neither a flag nor a command; "
			       "see --help");
	assert_refused("--password very hush",
		       "argument 3 is neither a flag nor a command; see "
		       "--help");
	assert_refused("-phush", "argument 1 is neither a flag nor "
				 "a command; see --help");
	assert_refused("port=80", "argument 1 is neither a flag nor "
				  "a command; see --help");
	assert_refused("healthchec", "argument 1 is neither a flag nor "
				     "a command; see --help");
}

static void a_flag_of_any_length_is_no_more_than_unknown(void **state)
{
	static char flag[4096] = "--";
	char *long_one[] = {flag, NULL};
	char error[CONFIG_ERROR_MAX];
	enum options_command command;

	(void)state;
	for (size_t len = 2; len < sizeof flag - 1; len++) {
		flag[len] = 'a';
		assert_int_equal(options_parse(long_one, &command, error),
				 UV_EINVAL);
	}
}

/* --- commands --------------------------------------------------------------*/

static void each_command_has_a_word(void **state)
{
	(void)state;
	assert_int_equal(parsed(""), OPTIONS_SERVE);
	assert_int_equal(parsed("reload"), OPTIONS_RELOAD);
	assert_int_equal(parsed("healthcheck"), OPTIONS_HEALTHCHECK);
	assert_int_equal(parsed("reload"), OPTIONS_RELOAD);
	assert_int_equal(parsed("--check-config"), OPTIONS_CHECK_CONFIG);
	assert_int_equal(parsed("--help"), OPTIONS_HELP);
	assert_int_equal(parsed("--version"), OPTIONS_VERSION);
}

static void a_command_goes_with_settings_in_any_order(void **state)
{
	(void)state;
	assert_int_equal(parsed("--port 80 healthcheck --ip=::1"),
			 OPTIONS_HEALTHCHECK);
	assert_string_equal(options_get("PORT"), "80");
	assert_string_equal(options_get("IP"), "::1");
}

static void two_commands_are_refused(void **state)
{
	(void)state;
	assert_refused("healthcheck --help",
		       "--help is one thing too many; see --help");
	assert_int_equal(parsed("--help --help"), OPTIONS_HELP);
}

static void a_command_before_a_mistake_is_known(void **state)
{
	char error[CONFIG_ERROR_MAX];
	enum options_command command;

	(void)state;
	assert_int_equal(parse("healthcheck --x", &command, error), UV_EINVAL);
	assert_int_equal(command, OPTIONS_HEALTHCHECK);
}

/* --- the environment -------------------------------------------------------*/

static int check(const char *variable, char error[static CONFIG_ERROR_MAX])
{
	static char home[] = "HOME=/";
	char text[128];
	char *environment[] = {home, text, NULL};

	error[0] = '\0';
	snprintf(text, sizeof text, "%s", variable);
	options_set_environment(environment);
	int rv = options_check_environment(error);
	options_set_environment(NULL);
	return rv;
}

static void names_without_the_prefix_are_not_our_business(void **state)
{
	static const char *const good[] = {"PORTS=1",       "ISIMUD=1",
					   "isimud_port=1", "X_ISIMUD_Y=1",
					   "ISIMU_X",       "="};
	char error[CONFIG_ERROR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_int_equal(check(good[i], error), 0);
}

static void a_setting_with_the_prefix_is_fine(void **state)
{
	char error[CONFIG_ERROR_MAX];

	(void)state;
	assert_int_equal(check("ISIMUD_PORT=1", error), 0);
	assert_int_equal(check("ISIMUD_PASSWORD_FILE=", error), 0);
}

static void an_unknown_name_with_the_prefix_is_refused(void **state)
{
	static const char *const bad[] = {"ISIMUD_PASWORD", "ISIMUD_",
					  "ISIMUD_port", "ISIMUD_MAX-BODY",
					  "ISIMUD_ISIMUD_IP"};
	char text[64];
	char says[64];
	char error[CONFIG_ERROR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(text, sizeof text, "%s=hush", bad[i]);
		snprintf(says, sizeof says, "%s is not a setting; see --help",
			 bad[i]);
		assert_int_equal(check(text, error), UV_EINVAL);
		assert_string_equal(error, says);
	}
	assert_int_equal(check("ISIMUD_NO_EQUALS_SIGN", error), UV_EINVAL);
}

static void a_name_of_any_length_is_no_more_than_unknown(void **state)
{
	static char variable[4096] = "ISIMUD_";
	char *environment[] = {variable, NULL};
	char error[CONFIG_ERROR_MAX];

	(void)state;
	options_set_environment(environment);
	for (size_t len = 7; len < sizeof variable - 1; len++) {
		variable[len] = 'A';
		assert_int_equal(options_check_environment(error), UV_EINVAL);
	}
	options_set_environment(NULL);
}

static void what_kubernetes_makes_of_a_service_is_ignored(void **state)
{
	char error[CONFIG_ERROR_MAX];

	(void)state;
	assert_int_equal(check("ISIMUD_SERVICE_HOST=10.0.0.1", error), 0);
	assert_int_equal(check("ISIMUD_PORT=tcp://10.0.0.1:3000", error), 0);
	setenv("ISIMUD_PORT", "tcp://10.0.0.1:3000", 1);
	assert_null(options_get("PORT"));
	setenv("PORT", "4000", 1);
	assert_string_equal(options_get("PORT"), "4000");
	setenv("ISIMUD_PORT", "5000", 1);
	assert_string_equal(options_get("PORT"), "5000");
	setenv("ISIMUD_PORT", "udp://10.0.0.1:3000", 1);
	setenv("PORT", "tcp://10.0.0.1:3000", 1);
	assert_null(options_get("PORT"));
	unsetenv("ISIMUD_PORT");
	unsetenv("PORT");
}

static void an_empty_variable_is_not_set(void **state)
{
	(void)state;
	setenv("ISIMUD_MAX_BODY", "", 1);
	assert_null(options_get("MAX_BODY"));
	setenv("MAX_BODY", "1", 1);
	assert_string_equal(options_get("MAX_BODY"), "1");
	setenv("MAX_BODY", "", 1);
	assert_null(options_get("MAX_BODY"));
	unsetenv("ISIMUD_MAX_BODY");
	unsetenv("MAX_BODY");
}

/* What protects must not be absent because something else was empty. */
static void but_an_empty_password_or_auth_url_is(void **state)
{
	static const char *const names[] = {"PASSWORD", "AUTH_URL"};
	char with_prefix[32];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		snprintf(with_prefix, sizeof with_prefix, "ISIMUD_%s",
			 names[i]);
		setenv(names[i], "", 1);
		assert_string_equal(options_get(names[i]), "");
		setenv(names[i], "x", 1);
		setenv(with_prefix, "", 1);
		assert_string_equal(options_get(names[i]), "");
		unsetenv(with_prefix);
		unsetenv(names[i]);
	}
}

static void a_foreign_value_counts_with_the_prefix_alone(void **state)
{
	(void)state;
	setenv("LOG_LEVEL", "trace", 1);
	assert_null(options_get("LOG_LEVEL"));
	setenv("ISIMUD_LOG_LEVEL", "trace", 1);
	assert_string_equal(options_get("LOG_LEVEL"), "trace");
	unsetenv("ISIMUD_LOG_LEVEL");
	assert_int_equal(parsed("--log-level=trace"), OPTIONS_SERVE);
	assert_string_equal(options_get("LOG_LEVEL"), "trace");
	unsetenv("LOG_LEVEL");
}

static void another_environment_may_be_looked_at(void **state)
{
	static char text[] = "ISIMUD_IP=::1";
	char *environment[] = {text, NULL};

	(void)state;
	setenv("IP", "1.2.3.4", 1);
	assert_string_equal(options_get("IP"), "1.2.3.4");
	options_set_environment(environment);
	assert_string_equal(options_get("IP"), "::1");
	options_set_environment(NULL);
	assert_string_equal(options_get("IP"), "1.2.3.4");
	unsetenv("IP");
}

#define TEST(f) cmocka_unit_test_setup(f, reset)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(what_is_given_nowhere_is_not_set),
		TEST(a_variable_with_the_prefix_wins_over_the_plain_one),
		TEST(a_flag_wins_over_the_environment),
		TEST(of_a_flag_given_twice_the_last_counts),
		TEST(what_is_a_value_is_not_taken_for_a_flag),
		TEST(a_boolean_takes_a_value_too),
		TEST(a_flag_without_a_value_is_refused),
		TEST(an_unknown_flag_is_refused_and_its_value_not_shown),
		TEST(any_other_argument_is_refused_by_its_place),
		TEST(a_flag_of_any_length_is_no_more_than_unknown),
		TEST(each_command_has_a_word),
		TEST(a_command_goes_with_settings_in_any_order),
		TEST(two_commands_are_refused),
		TEST(a_command_before_a_mistake_is_known),
		TEST(names_without_the_prefix_are_not_our_business),
		TEST(a_setting_with_the_prefix_is_fine),
		TEST(an_unknown_name_with_the_prefix_is_refused),
		TEST(a_name_of_any_length_is_no_more_than_unknown),
		TEST(what_kubernetes_makes_of_a_service_is_ignored),
		TEST(an_empty_variable_is_not_set),
		TEST(but_an_empty_password_or_auth_url_is),
		TEST(a_foreign_value_counts_with_the_prefix_alone),
		TEST(another_environment_may_be_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
