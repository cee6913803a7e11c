//! The relations of `pg_catalog`, those that something fills first.

/// Name, OID and columns of the relations of `pg_catalog`. Those of PostgreSQL 15, so that newer clients find theirs.
pub(super) const PG: &[(&str, u32, &str)] = &[
    (
        "pg_class",
        1259,
        "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, \
         relfilenode oid, reltablespace oid, relpages int4, reltuples float4, relallvisible int4, \
         reltoastrelid oid, relhasindex bool, relisshared bool, relpersistence char, relkind char, \
         relnatts int2, relchecks int2, relhasrules bool, relhastriggers bool, relhassubclass bool, \
         relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident char, \
         relispartition bool, relrewrite oid, relfrozenxid int8, relminmxid int8, relacl text[], \
         reloptions text[], relpartbound text",
    ),
    ("pg_namespace", 2615, "oid oid, nspname name, nspowner oid, nspacl text[]"),
    (
        "pg_attribute",
        1249,
        "attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, \
         attndims int4, attcacheoff int4, atttypmod int4, attbyval bool, attstorage char, attalign char, \
         attcompression char, attnotnull bool, atthasdef bool, atthasmissing bool, attidentity char, \
         attgenerated char, attisdropped bool, attislocal bool, attinhcount int4, attcollation oid, \
         attacl text[], attoptions text[], attfdwoptions text[], attmissingval text[]",
    ),
    (
        "pg_type",
        1247,
        "oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype char, \
         typcategory char, typispreferred bool, typisdefined bool, typdelim char, typrelid oid, typelem oid, \
         typarray oid, typinput oid, typoutput oid, typreceive oid, typsend oid, typmodin oid, \
         typmodout oid, typanalyze oid, typalign char, typstorage char, typnotnull bool, typbasetype oid, \
         typtypmod int4, typndims int4, typcollation oid, typdefaultbin text, typdefault text, \
         typacl text[]",
    ),
    (
        "pg_proc",
        1255,
        "oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4, \
         provariadic oid, prosupport oid, prokind char, prosecdef bool, proleakproof bool, proisstrict bool, \
         proretset bool, provolatile char, proparallel char, pronargs int2, pronargdefaults int2, \
         prorettype oid, proargtypes oid[], proallargtypes oid[], proargmodes char[], proargnames text[], \
         proargdefaults text, protrftypes oid[], prosrc text, probin text, proconfig text[], proacl text[]",
    ),
    ("pg_am", 2601, "oid oid, amname name, amhandler oid, amtype char"),
    (
        "pg_index",
        2610,
        "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, \
         indnullsnotdistinct bool, indisprimary bool, indisexclusion bool, indimmediate bool, \
         indisclustered bool, indisvalid bool, indcheckxmin bool, indisready bool, indislive bool, \
         indisreplident bool, indkey int2[], indcollation oid[], indclass oid[], indoption int2[], \
         indexprs text, indpred text",
    ),
    (
        "pg_constraint",
        2606,
        "oid oid, conname name, connamespace oid, contype char, condeferrable bool, condeferred bool, \
         convalidated bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, \
         confupdtype char, confdeltype char, confmatchtype char, conislocal bool, coninhcount int4, \
         connoinherit bool, conkey int2[], confkey int2[], conpfeqop oid[], conppeqop oid[], \
         conffeqop oid[], conexclop oid[], conbin text",
    ),
    ("pg_attrdef", 2604, "oid oid, adrelid oid, adnum int2, adbin text"),
    ("pg_description", 2609, "objoid oid, classoid oid, objsubid int4, description text"),
    ("pg_shdescription", 2396, "objoid oid, classoid oid, description text"),
    (
        "pg_database",
        1262,
        "oid oid, datname name, datdba oid, encoding int4, datlocprovider char, datistemplate bool, \
         datallowconn bool, datconnlimit int4, datlastsysoid oid, datfrozenxid int8, datminmxid int8, \
         dattablespace oid, datcollate text, datctype text, daticulocale text, datcollversion text, \
         datacl text[]",
    ),
    (
        "pg_authid",
        1260,
        "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
         rolcanlogin bool, rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text, \
         rolvaliduntil timestamptz",
    ),
    (
        "pg_roles",
        12001,
        "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
         rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, \
         rolvaliduntil timestamptz, rolbypassrls bool, rolconfig text[]",
    ),
    (
        "pg_user",
        12002,
        "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, \
         passwd text, valuntil timestamptz, useconfig text[]",
    ),
    ("pg_auth_members", 1261, "roleid oid, member oid, grantor oid, admin_option bool"),
    (
        "pg_settings",
        12003,
        "name text, setting text, unit text, category text, short_desc text, extra_desc text, context text, \
         vartype text, source text, min_val text, max_val text, enumvals text[], boot_val text, \
         reset_val text, sourcefile text, sourceline int4, pending_restart bool",
    ),
    (
        "pg_tables",
        12004,
        "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, hasrules bool, \
         hastriggers bool, rowsecurity bool",
    ),
    ("pg_views", 12005, "schemaname name, viewname name, viewowner name, definition text"),
    (
        "pg_matviews",
        12006,
        "schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, \
         ispopulated bool, definition text",
    ),
    ("pg_indexes", 12007, "schemaname name, tablename name, indexname name, tablespace name, indexdef text"),
    (
        "pg_stat_activity",
        12008,
        "datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, \
         application_name text, client_addr text, client_hostname text, client_port int4, \
         backend_start timestamptz, xact_start timestamptz, query_start timestamptz, \
         state_change timestamptz, wait_event_type text, wait_event text, state text, backend_xid int8, \
         backend_xmin int8, query text, backend_type text",
    ),
    (
        "pg_stat_user_tables",
        12009,
        "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, \
         idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, \
         n_live_tup int8, n_dead_tup int8, n_mod_since_analyze int8, n_ins_since_vacuum int8, \
         last_vacuum timestamptz, last_autovacuum timestamptz, last_analyze timestamptz, \
         last_autoanalyze timestamptz, vacuum_count int8, autovacuum_count int8, analyze_count int8, \
         autoanalyze_count int8",
    ),
    ("pg_tablespace", 1213, "oid oid, spcname name, spcowner oid, spcacl text[], spcoptions text[]"),
    (
        "pg_range",
        3541,
        "rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, rngcanonical oid, \
         rngsubdiff oid",
    ),
    ("pg_enum", 3501, "oid oid, enumtypid oid, enumsortorder float4, enumlabel name"),
    (
        "pg_collation",
        3456,
        "oid oid, collname name, collnamespace oid, collowner oid, collprovider char, \
         collisdeterministic bool, collencoding int4, collcollate text, collctype text, colliculocale text, \
         collversion text",
    ),
    (
        "pg_opclass",
        2616,
        "oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid, \
         opcdefault bool, opckeytype oid",
    ),
    ("pg_opfamily", 2753, "oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid"),
    ("pg_cast", 2605, "oid oid, castsource oid, casttarget oid, castfunc oid, castcontext char, castmethod char"),
    (
        "pg_operator",
        2617,
        "oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind char, oprcanmerge bool, \
         oprcanhash bool, oprleft oid, oprright oid, oprresult oid, oprcom oid, oprnegate oid, oprcode oid, \
         oprrest oid, oprjoin oid",
    ),
    (
        "pg_language",
        2612,
        "oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, \
         laninline oid, lanvalidator oid, lanacl text[]",
    ),
    (
        "pg_extension",
        3079,
        "oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text, \
         extconfig oid[], extcondition text[]",
    ),
    ("pg_inherits", 2611, "inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool"),
    (
        "pg_policy",
        3256,
        "oid oid, polname name, polrelid oid, polcmd char, polpermissive bool, polroles oid[], polqual text, \
         polwithcheck text",
    ),
    (
        "pg_trigger",
        2620,
        "oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled char, \
         tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, \
         tginitdeferred bool, tgnargs int2, tgattr int2[], tgargs text, tgqual text, tgoldtable name, \
         tgnewtable name",
    ),
    (
        "pg_rewrite",
        2618,
        "oid oid, rulename name, ev_class oid, ev_type char, ev_enabled char, is_instead bool, ev_qual text, \
         ev_action text",
    ),
    (
        "pg_depend",
        2608,
        "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, \
         deptype char",
    ),
    (
        "pg_shdepend",
        1214,
        "dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype char",
    ),
    ("pg_seclabel", 3596, "objoid oid, classoid oid, objsubid int4, provider text, label text"),
    (
        "pg_statistic_ext",
        3381,
        "oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, \
         stxkeys int2[], stxkind char[], stxexprs text",
    ),
    (
        "pg_publication",
        6104,
        "oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, \
         pubdelete bool, pubtruncate bool, pubviaroot bool",
    ),
    ("pg_publication_rel", 6106, "oid oid, prpubid oid, prrelid oid, prqual text, prattrs int2[]"),
    ("pg_publication_namespace", 6237, "oid oid, pnpubid oid, pnnspid oid"),
    ("pg_publication_tables", 12010, "pubname name, schemaname name, tablename name"),
    (
        "pg_subscription",
        6100,
        "oid oid, subdbid oid, subname name, subowner oid, subenabled bool, subconninfo text, \
         subslotname name, subsynccommit text, subpublications text[]",
    ),
    ("pg_foreign_table", 3118, "ftrelid oid, ftserver oid, ftoptions text[]"),
    (
        "pg_foreign_server",
        1417,
        "oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvversion text, srvacl text[], \
         srvoptions text[]",
    ),
    (
        "pg_foreign_data_wrapper",
        2328,
        "oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl text[], \
         fdwoptions text[]",
    ),
    ("pg_user_mapping", 1418, "oid oid, umuser oid, umserver oid, umoptions text[]"),
    (
        "pg_sequence",
        2224,
        "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, \
         seqcache int8, seqcycle bool",
    ),
    (
        "pg_sequences",
        12011,
        "schemaname name, sequencename name, sequenceowner name, data_type text, start_value int8, \
         min_value int8, max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8",
    ),
    (
        "pg_partitioned_table",
        3350,
        "partrelid oid, partstrat char, partnatts int2, partdefid oid, partattrs int2[], partclass oid[], \
         partcollation oid[], partexprs text",
    ),
    (
        "pg_event_trigger",
        3466,
        "oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled char, evttags text[]",
    ),
    (
        "pg_conversion",
        2607,
        "oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, contoencoding int4, \
         conproc oid, condefault bool",
    ),
    ("pg_aggregate", 2600, "aggfnoid oid, aggkind char, aggnumdirectargs int2, aggtransfn oid, aggfinalfn oid"),
    ("pg_default_acl", 826, "oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype char, defaclacl text[]"),
    (
        "pg_locks",
        12012,
        "locktype text, database oid, relation oid, page int4, tuple int2, virtualxid text, \
         transactionid int8, classid oid, objid oid, objsubid int2, virtualtransaction text, pid int4, \
         mode text, granted bool, fastpath bool",
    ),
    ("pg_prepared_xacts", 12013, "transaction int8, gid text, prepared timestamptz, owner name, database name"),
    (
        "pg_prepared_statements",
        12014,
        "name text, statement text, prepare_time timestamptz, parameter_types text[], from_sql bool",
    ),
    (
        "pg_cursors",
        12015,
        "name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, \
         creation_time timestamptz",
    ),
    ("pg_available_extensions", 12016, "name name, default_version text, installed_version text, comment text"),
    ("pg_get_keywords", 12900, "word text, catcode char, barelabel bool, catdesc text, baredesc text"),
    ("pg_timezone_names", 12017, "name text, abbrev text, utc_offset text, is_dst bool"),
    (
        "pg_replication_slots",
        12018,
        "slot_name name, plugin name, slot_type text, datoid oid, database name, temporary bool, \
         active bool, active_pid int4, xmin int8, catalog_xmin int8, restart_lsn text, \
         confirmed_flush_lsn text",
    ),
    (
        "pg_stat_database",
        12019,
        "datid oid, datname name, numbackends int4, xact_commit int8, xact_rollback int8, blks_read int8, \
         blks_hit int8, tup_returned int8, tup_fetched int8, tup_inserted int8, tup_updated int8, \
         tup_deleted int8",
    ),
    (
        "pg_stat_replication",
        12020,
        "pid int4, usesysid oid, usename name, application_name text, client_addr text, state text, \
         sent_lsn text, write_lsn text, flush_lsn text, replay_lsn text, sync_state text",
    ),
    (
        "pg_stat_ssl",
        12021,
        "pid int4, ssl bool, version text, cipher text, bits int4, client_dn text, client_serial text, \
         issuer_dn text",
    ),
    ("pg_stat_gssapi", 12022, "pid int4, gss_authenticated bool, principal text, encrypted bool"),
    (
        "pg_statio_user_tables",
        12023,
        "relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, \
         idx_blks_read int8, idx_blks_hit int8",
    ),
    ("pg_ts_config", 3602, "oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid"),
    (
        "pg_ts_dict",
        3600,
        "oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid, dictinitoption text",
    ),
    ("pg_ts_parser", 3601, "oid oid, prsname name, prsnamespace oid"),
    ("pg_ts_template", 3764, "oid oid, tmplname name, tmplnamespace oid"),
];
