/* What cannot be read off a program's file. */
#include "mtlsize_known.h"

#include <fnmatch.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtlsize_file.h"

/* file: a pattern, beside the program's folder where it is relative; %s is the program's name. */
static const struct helper {
    const char *program, *file;
    bool instead;
} helpers[] = {
    {"python*", "../lib/python*/lib-dynload/_ssl.*.so", false},
    {"apache2", "../lib/apache2/modules/mod_ssl.so", false},
    {"httpd", "../lib*/httpd/modules/mod_ssl.so", false},
    {"httpd", "../modules/mod_ssl.so", false},
    {"lighttpd", "../lib*/lighttpd/mod_openssl.so", false},
    {"perl*", "../lib/*/perl5/*/auto/Net/SSLeay/SSLeay.so", false},
    {"ruby*", "../lib/*/ruby/*/openssl.so", false},
    {"git", "../lib/git-core/git-remote-https", true},
    {"git", "../libexec/git-core/git-remote-https", true},
    {"psql", "../lib/postgresql/*/bin/%s", true},
    {"pg_*", "../lib/postgresql/*/bin/%s", true},
    {"createdb", "../lib/postgresql/*/bin/%s", true},
    {"dropdb", "../lib/postgresql/*/bin/%s", true},
    {"pg_ctlcluster", "../lib/postgresql/*/bin/postgres", true},
    {"apache2ctl", "apache2", true},
    {"apachectl", "apache2", true},
    {"postfix", "../lib/postfix/sbin/smtp", true},
    {"dovecot", "../lib/dovecot/libssl_iostream_openssl.so", false},
};

/* Of several versions the last. */
static bool glob_last(const char *pattern, char out[PATH_MAX])
{
    glob_t found;
    bool fits;

    if (glob(pattern, 0, NULL, &found) != 0)
        return false;
    fits = realpath(found.gl_pathv[found.gl_pathc - 1], out) != NULL;
    globfree(&found);
    return fits;
}

static bool find_helper(const struct helper *h, const char *path, char out[PATH_MAX])
{
    const char *name = base_name(path), *percent = strstr(h->file, "%s");
    char file[256], pattern[PATH_MAX];

    if (percent != NULL)
        snprintf(file, sizeof file, "%.*s%s", (int)(percent - h->file), h->file, name);
    else
        snprintf(file, sizeof file, "%s", h->file);
    if (snprintf(pattern, sizeof pattern, "%.*s%s", (int)(name - path), path, file) >=
        (int)sizeof pattern)
        return false;
    return glob_last(pattern, out);
}

bool known_helper(const char *path, char out[PATH_MAX], bool *instead)
{
    for (size_t i = 0; i < sizeof helpers / sizeof helpers[0]; i++)
        if (fnmatch(helpers[i].program, base_name(path), 0) == 0 &&
            find_helper(&helpers[i], path, out)) {
            *instead = helpers[i].instead;
            return true;
        }
    return false;
}

static const struct fallback {
    const char *program, *library; /* one of them; library: how its name begins */
    const char *text;
} fallbacks[] = {
    {NULL, "libpq.so.",
     "libpq falls back to plain text with sslmode=prefer, its default: set "
     "PGSSLMODE=verify-full (or require)"},
    {NULL, "libmariadb.so.",
     "libmariadb falls back to plain text unless the connection demands "
     "TLS: use --ssl-verify-server-cert"},
    {NULL, "libmysqlclient.so.",
     "libmysqlclient falls back to plain text with ssl-mode=PREFERRED: use VERIFY_IDENTITY"},
    {NULL, "libldap",
     "libldap goes on in plain text when StartTLS is optional (ldapsearch -Z): use "
     "-ZZ or ldaps"},
    {"smtp", NULL,
     "Postfix falls back to plain text with smtp_tls_security_level=may: use "
     "encrypt, verify or dane-only"},
    {"postfix", NULL,
     "Postfix falls back to plain text with smtp_tls_security_level=may: use "
     "encrypt, verify or dane-only"},
    {"exim*", NULL, "Exim delivers in plain text when TLS fails: set hosts_require_tls"},
    {"sendmail*", NULL,
     "sendmail delivers in plain text when TLS fails: demand it in the access "
     "map (TLS_Srv)"},
    {"opensmtpd", NULL, "OpenSMTPD delivers in plain text when TLS fails: relay with tls verify"},
    {"smtpd", NULL, "OpenSMTPD delivers in plain text when TLS fails: relay with tls verify"},
    {"lftp", NULL, "lftp falls back to plain FTP: set ftp:ssl-force and ftp:ssl-protect-data"},
    {"mutt", NULL, "mutt's STARTTLS is optional: set ssl_force_tls"},
    {"neomutt", NULL, "NeoMutt's STARTTLS is optional: set ssl_force_tls"},
    {"fetchmail", NULL,
     "fetchmail's STARTTLS is optional: use --ssl, or sslproto with tls1+ and "
     "sslcertck"},
};

static bool needs(const struct elf_file *elf, const char *prefix)
{
    for (size_t i = 0; i < elf->needed_count; i++)
        if (strncmp(elf->needed[i], prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

const char *known_fallback(const char *name, const struct elf_file *elf, unsigned index)
{
    for (size_t i = 0; i < sizeof fallbacks / sizeof fallbacks[0]; i++) {
        const struct fallback *f = &fallbacks[i];
        bool fits = f->program != NULL ? fnmatch(f->program, name, 0) == 0 : needs(elf, f->library);

        if (fits && index-- == 0)
            return f->text;
    }
    return NULL;
}

static const struct hint {
    const char *program, *text;
} hints[] = {
    {"nginx", "nginx needs TLSv1.3 among its ssl_protocols (before 1.23.4 it is not by default), "
              "and share=NAME (--config) where its binary is replaced in place (USR2)"},
    {"apache2ctl", "apache2ctl clears the environment: start apache2 itself, or export LD_PRELOAD "
                   "and MTLS_CONFIG in /etc/apache2/envvars"},
    {"apachectl", "apachectl may clear the environment: start the server itself, or export "
                  "LD_PRELOAD and MTLS_CONFIG in its envvars"},
    {"pg_ctlcluster", "pg_ctlcluster keeps an environment of its own: write LD_PRELOAD and "
                      "MTLS_CONFIG into the cluster's environment file"},
    {"postfix", "Postfix cleans the environment: add LD_PRELOAD and MTLS_CONFIG to "
                "import_environment and export_environment in main.cf"},
    {"dovecot", "Dovecot cleans the environment: add LD_PRELOAD and MTLS_CONFIG to "
                "import_environment"},
};

const char *known_hint(const char *name)
{
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (fnmatch(hints[i].program, name, 0) == 0)
            return hints[i].text;
    return NULL;
}
