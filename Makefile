# ptqbench: `make help` lists the targets. Everything built lies under build/$(BUILD)/; nothing is written beside the sources.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

BUILD ?= release
O := build/$(BUILD)
PREFIX ?= /usr/local
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2);)

# ---- what is needed ------------------------------------------------------------------------------------------------
PKGS := openblas lapacke hdf5 gsl jansson libxxhash libpcre2-8
DEBS := pkg-config libopenblas-dev liblapacke-dev libhdf5-dev libgsl-dev libjansson-dev libxxhash-dev libpcre2-dev gnuplot-nox
FETCH_DEBS := python3-pip
PROSE_DEBS := dasher-data
TEST_PKGS := cmocka
TEST_DEBS := libcmocka-dev

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wno-missing-field-initializers
# -ffp-contract=off and no -ffast-math: rounding is the result here.
CFLAGS_release := -O3
CFLAGS_debug := -O0 -g3
CFLAGS_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -DPTQ_SANITIZE
CFLAGS_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread -DPTQ_SANITIZE
ifeq ($(CFLAGS_$(BUILD)),)
$(error BUILD=$(BUILD) is unknown: release, debug, asan or tsan)
endif
# gsl's pkg-config names -lgslcblas, which could serve cblas_sgemm in OpenBLAS's place: only its own library is linked.
CPPFLAGS = -Iharness -I. -I$(O)/gen $(shell pkg-config --cflags $(PKGS) 2>/dev/null) -D_GNU_SOURCE
CFLAGS = -std=c11 $(CFLAGS_$(BUILD)) -ffp-contract=off -fno-common -pthread $(WARN) $(EXTRA_CFLAGS)
LDFLAGS = $(filter -fsanitize%,$(CFLAGS_$(BUILD))) -pthread $(EXTRA_LDFLAGS)
LDLIBS = $(shell pkg-config --libs openblas lapacke 2>/dev/null) $(shell pkg-config --libs hdf5 jansson libxxhash libpcre2-8 2>/dev/null) \
         $(shell pkg-config --libs gsl 2>/dev/null | sed 's/-lgslcblas//; s/-lblas//') -ldl -lm

# As many compilers as cores, unless -j was given.
JOBS = $(if $(findstring j,$(filter -j% --jobserver% j%,$(MAKEFLAGS))),,-j$(shell nproc 2>/dev/null || echo 1))

# ---- sources: the folder is the registry -----------------------------------------------------------------------------
METHODS := $(sort $(wildcard methods/*.c))
REAL := $(sort $(wildcard harness/*/*_real.c)) $(METHODS)
LIB := $(filter-out %_real.c harness/cli/%,$(sort $(wildcard harness/*/*.c datasets/*.c)))
CLI := $(sort $(wildcard harness/cli/*.c))
METRICS := $(sort $(wildcard harness/metrics/metric_*.c))
ARCHS := $(sort $(wildcard harness/model/arch_*.c))
KERNELS := $(sort $(foreach i,scalar avx2 avxvnni avx512,$(wildcard harness/kernels/*_$(i).c)))
VERBS := $(sort $(wildcard harness/cli/cmd_*.c))
SYNTHS := $(sort $(wildcard datasets/synth_*.c))
FORMATS := $(sort $(wildcard datasets/format_*.c))
LIB_OBJ := $(LIB:%.c=$(O)/%.o) $(REAL:%.c=$(O)/%.f32.o) $(REAL:%.c=$(O)/%.f64.o)
CLI_OBJ := $(CLI:%.c=$(O)/%.o)
PTQ := $(O)/ptq
UNIT := $(sort $(wildcard tests/unit/test_*.c))
UNIT_BIN := $(UNIT:%.c=$(O)/%)
REGISTRIES := $(addprefix $(O)/gen/,methods.inc metrics.inc archs.inc verbs.inc synths.inc formats.inc kernels.inc version.inc)

.PHONY: all program help doctor deps test-deps regress table test test-unit test-cli lint format install clean sweep fetch prose

all: deps ## build the program (installs missing packages where it may)
	@$(MAKE) --no-print-directory $(JOBS) program

program: $(PTQ)

## ---- the targets people type

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo; echo '  variables: BUILD=release|debug|asan|tsan CONFIG=name.ini MODEL=path FULL=1 SET="section.key=value ..." PREFIX= V=1 NO_INSTALL=1'

CONFIG ?= demo.ini
# A bare name is looked for in configs/.
CONFIG_PATH = $(if $(wildcard $(CONFIG)),$(CONFIG),configs/$(CONFIG))
# MODEL=, FULL=1 and SET= as the program takes them.
SWEEP_FLAGS = $(if $(MODEL),--model '$(MODEL)') $(if $(filter-out 0,$(FULL)),--full) $(if $(SET),--set '$(SET)')
# A configuration whose model is fetched has a section [fetch]; another model needs none of it.
NEEDS_FETCH = $(if $(MODEL)$(findstring model.source=,$(SET)),,$(shell grep -sl '^\[fetch\]' '$(CONFIG_PATH)'))
sweep: all prose $(if $(NEEDS_FETCH),fetch) ## sweep CONFIG (default configs/demo.ini), then write its report; finished cells are never run again
	$(PTQ) sweep '$(CONFIG_PATH)' $(SWEEP_FLAGS) $(if $(THREADS),--threads $(THREADS))

TABLE ?= qet
table: all ## run what this machine can of a paper's TABLE (configs/tables/NAME.ini) and print its numbers beside ours; MODEL_DIR= FORMAT=md|csv|latex
	@$(PTQ) table '$(TABLE)' $(if $(MODEL_DIR),--model-dir '$(MODEL_DIR)') $(if $(FORMAT),--format '$(FORMAT)') $(TABLE_FLAGS)

BASELINE := results/baselines/demo.jsonl
regress: all ## run configs/regress.ini and compare it with the committed baseline: bits, quality, exit code
	$(PTQ) sweep configs/regress.ini --portable --quiet --no-report >/dev/null
	$(PTQ) compare $(BASELINE) results/regress --strict $(COMPARE_FLAGS)

fetch: ## bring the model that [fetch] of CONFIG names into datasets/cache/ (sweep does it by itself)
	@datasets/fetch.sh --have '$(CONFIG_PATH)' || { $(call ensure_pip); datasets/fetch.sh '$(CONFIG_PATH)'; }

# English prose stands in for texts that are not here. Without it the sweep says what is missing, so nothing fails here.
prose: all
	@! $(PTQ) sweep '$(CONFIG_PATH)' $(SWEEP_FLAGS) --missing-texts 2>/dev/null | grep -q '^prose:' || { $(call may_add,$(PROSE_DEBS),English prose for texts that are not here); }

doctor: all ## say what machine, libraries and BLAS core are in use, and what is missing
	$(PTQ) doctor

install: all ## install the program, its plots and the demo model under PREFIX
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/ptqbench/configs' '$(DESTDIR)$(PREFIX)/share/ptqbench/plots' '$(DESTDIR)$(PREFIX)/share/ptqbench/datasets'
	install -m 755 $(PTQ) '$(DESTDIR)$(PREFIX)/bin/ptq'
	install -m 644 configs/*.ini '$(DESTDIR)$(PREFIX)/share/ptqbench/configs/'
	install -d '$(DESTDIR)$(PREFIX)/share/ptqbench/configs/tables'
	install -m 644 configs/tables/*.ini '$(DESTDIR)$(PREFIX)/share/ptqbench/configs/tables/'
	install -m 644 plots/*.gp '$(DESTDIR)$(PREFIX)/share/ptqbench/plots/'
	install -m 644 datasets/demo.h5 '$(DESTDIR)$(PREFIX)/share/ptqbench/datasets/'
	install -m 755 datasets/fetch.sh '$(DESTDIR)$(PREFIX)/share/ptqbench/datasets/'

test: all test-deps ## every test (unit, contract, reference, command line); about ten minutes at most on two cores
	@$(MAKE) --no-print-directory $(JOBS) test-programs
	@$(MAKE) --no-print-directory test-run

lint: ## clang-format in check mode
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')

format: ## clang-format all sources
	clang-format -i $$(git ls-files '*.c' '*.h')

clean: ## remove build/
	rm -rf build

## ---- packages

missing = $(shell command -v pkg-config >/dev/null 2>&1 || echo pkg-config; for p in $(1); do pkg-config --exists $$p 2>/dev/null || echo $$p; done; $(if $(2),command -v $(2) >/dev/null 2>&1 || echo $(2)))
MAY_INSTALL = $(and $(filter 0,$(shell id -u)),$(wildcard /etc/debian_version),$(if $(NO_INSTALL),,yes))

define ensure
@missing="$(strip $(call missing,$(1),$(3)))"; if [ -n "$$missing" ]; then \
  echo "missing: $$missing"; \
  if [ -n "$(MAY_INSTALL)" ]; then \
    echo "installing: $(2)"; \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null || { echo 'apt-get failed: see above'; exit 2; }; \
  elif [ -e /etc/debian_version ]; then \
    echo "install them as root:  apt-get install $(2)"; exit 2; \
  else \
    echo "needed: gcc, pkg-config and the development files of $(1)$(if $(3),; $(3)) (Debian names: $(2))"; exit 2; \
  fi; fi
endef

# Packages that only some configurations need: installed where that is allowed, else named; the caller goes on either way.
may_add = if [ -n "$(MAY_INSTALL)" ]; then echo "installing: $(1) ($(2))"; \
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null || echo "apt-get failed: see above"; \
  else echo "wanted: $(2); as root: apt-get install --no-install-recommends $(1)"; fi
ensure_pip = python3 -m pip --version >/dev/null 2>&1 || { $(call may_add,$(FETCH_DEBS),it downloads the model); }

deps:
	$(call ensure,$(PKGS),$(DEBS),gnuplot)

test-deps:
	$(call ensure,$(TEST_PKGS),$(TEST_DEBS))

## ---- build

# Compiler flags decide the objects: another set rebuilds.
$(O)/gen/flags: FORCE
	@mkdir -p $(@D); new='$(CC) $(CFLAGS) $(LDFLAGS)'; [ "$$(cat $@ 2>/dev/null)" = "$$new" ] || printf '%s' "$$new" >$@
.PHONY: FORCE

# A registry line is ENTRY(name, "hash of the source"): the hash is the version of a method or metric in every key.
entries = for f in $(1); do n=$$(basename $$f .c); h=$$(sha256sum <$$f | cut -c1-16); printf 'ENTRY(%s, "%s")\n' "$${n\#$(2)}" "$$h"; done
$(O)/gen/methods.inc: WORDS = $(call entries,$(METHODS),)
$(O)/gen/metrics.inc: WORDS = $(call entries,$(METRICS),metric_)
$(O)/gen/archs.inc: WORDS = $(call entries,$(ARCHS),arch_)
$(O)/gen/verbs.inc: WORDS = $(call entries,$(VERBS),cmd_)
$(O)/gen/formats.inc: WORDS = $(call entries,$(FORMATS),format_)
$(O)/gen/kernels.inc: WORDS = $(call entries,$(KERNELS),)
$(O)/gen/synths.inc: WORDS = $(call entries,$(SYNTHS),synth_)
# The commit, and hashes: of the sources that decide a stored form outside the methods (part of every form key), and of those
# that metrics share (part of every metric key). A new method or metric changes neither.
# A file counts as arithmetic unless it is named in NO_NUMBERS, so a new one is on the safe side: too many keys change, never too few.
# Left out are files whose every effect on a number is in a key by itself (texts, layers and files are hashed by content, options by value)
# or that touch none (messages, time, memory, names). Of sweep/, the files that make what a method sees or sum up what it gave are in.
NO_NUMBERS := $(addprefix harness/core/,$(foreach f,arena blasref clock hash ini json paths progress status sync words,$(f).c $(f).h)) \
  datasets/filekey.c datasets/npy.c datasets/npy.h $(wildcard datasets/synth*.[ch])
ARITHMETIC := harness/ptq.h $(filter-out $(NO_NUMBERS),$(sort \
  $(wildcard harness/core/*.[ch] harness/quant/*.[ch] harness/model/*.[ch] datasets/*.[ch]))) \
  $(sort $(wildcard harness/sweep/cell.[ch] harness/sweep/layer_phase.[ch] harness/sweep/layerfile.[ch] harness/sweep/model_phase.[ch] harness/sweep/placed.[ch] harness/sweep/sequential.[ch]))
# Of rows beside the cells.
BESIDE := $(sort $(wildcard harness/sweep/propagation*.[ch])) harness/sweep/proxy_phase.c
SCORING := harness/metrics/metric.h $(filter-out harness/metrics/metric_%,$(sort $(wildcard harness/metrics/*.[ch])))
$(O)/gen/version.inc: WORDS = printf '\#define PTQ_COMMIT "%s"\n\#define PTQ_HARNESS_HASH "%s"\n\#define PTQ_SCORING_HASH "%s"\n\#define PTQ_BESIDE_HASH "%s"\n\#define PTQ_COMPILER "%s"\n\#define PTQ_BUILD "%s"\n\#define PTQ_PREFIX "%s"\n' \
  "$$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)" "$$(cat $(ARITHMETIC) | sha256sum | cut -c1-16)" "$$(cat $(SCORING) | sha256sum | cut -c1-16)" "$$(cat $(BESIDE) | sha256sum | cut -c1-16)" "$$($(CC) --version | head -1)" "$(BUILD)" "$(PREFIX)"
$(REGISTRIES): FORCE
	@mkdir -p $(@D); { $(WORDS); } >$@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@

compile = $(call say,CC,$@) mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP
$(O)/%.f32.o: %.c $(O)/gen/flags | $(REGISTRIES)
	$(compile) -c $< -o $@
$(O)/%.f64.o: %.c $(O)/gen/flags | $(REGISTRIES)
	$(compile) -DPTQ_DOUBLE -c $< -o $@
$(O)/%.o: %.c $(O)/gen/flags | $(REGISTRIES)
	$(compile) -c $< -o $@

# The inner loops of products and of exp, whose accumulators at -O1 lie in memory that sanitizers check: 10 times the time of
# a model. Still checked, the same bits.
ifneq ($(filter asan tsan,$(BUILD)),)
$(O)/harness/core/fmatile.o $(O)/harness/core/num.o: private CFLAGS += -O3
endif

$(O)/libptq.a: $(LIB_OBJ)
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $^
$(PTQ): $(CLI_OBJ) $(O)/libptq.a
	$(call say,LD,$@) $(CC) $(LDFLAGS) -rdynamic $(CLI_OBJ) $(O)/libptq.a $(LDLIBS) -o $@

## ---- tests: a file tests/unit/test_X.c is a cmocka program, a file tests/cli/X.sh a script; both are found, none is listed

$(O)/tests/unit/%: tests/unit/%.c $(O)/libptq.a $(O)/gen/flags
	$(call say,LD,$@) mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) -Itests -MMD -MP -MF $@.d $< $(LDFLAGS) $(O)/libptq.a $(LDLIBS) $(shell pkg-config --libs cmocka) -o $@

# Programs with a fault in them, for the test of `ptq compare`: tests/faults/NAME.pl says which source it breaks, and how.
FAULTY := $(sort $(wildcard tests/faults/*.pl))
FAULTY_BIN := $(FAULTY:%.pl=$(O)/%)
$(O)/tests/faults/%: tests/faults/%.pl tests/faults/build.sh $(CLI_OBJ) $(O)/libptq.a $(O)/gen/flags
	$(call say,LD,$@) mkdir -p $(@D) && CC='$(CC)' COMPILE='$(CPPFLAGS) $(CFLAGS)' LINK='$(LDFLAGS) -rdynamic $(CLI_OBJ)' \
	  LIBS='$(O)/libptq.a $(LDLIBS)' tests/faults/build.sh $< $@

# Fuzzing is a target, not a test: its length is yours to choose.
FUZZ_SECONDS ?= 60
$(O)/tests/fuzz/%: tests/fuzz/%.c $(O)/libptq.a $(O)/gen/flags
	$(call say,LD,$@) mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $@.d $< $(LDFLAGS) $(O)/libptq.a $(LDLIBS) -o $@
fuzz: all ## feed mutated bytes to every parser of our own; use with BUILD=asan, FUZZ_SECONDS=60, FUZZ_SEED=
	@$(MAKE) --no-print-directory $(O)/tests/fuzz/fuzz_parsers
	$(O)/tests/fuzz/fuzz_parsers $(FUZZ_SECONDS) $(FUZZ_SEED)

# What valgrind runs to count the instructions of kernels.
COUNTS_BIN := $(O)/tests/counts/kernel_counts
$(O)/tests/counts/%: tests/counts/%.c $(O)/libptq.a $(O)/gen/flags
	$(call say,LD,$@) mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $@.d $< $(LDFLAGS) $(O)/libptq.a $(LDLIBS) -o $@
counts: all ## write tests/counts/counts.tsv anew: instructions that kernels take, counted by valgrind
	@$(MAKE) --no-print-directory $(COUNTS_BIN)
	BUILD_DIR=$(O) PTQ=$(abspath $(PTQ)) tests/cli/kernel_counts.sh --update

.PHONY: fuzz counts test-run test-programs
test-programs: $(PTQ) $(UNIT_BIN) $(FAULTY_BIN) $(COUNTS_BIN)
test-run: test-programs
	@BUILD_DIR=$(O) PTQ=$(abspath $(PTQ)) tests/run.sh $(if $(ONLY),'$(ONLY)')

ifneq ($(filter-out help clean lint format deps,$(or $(MAKECMDGOALS),all)),)
-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(UNIT_BIN:=.d) $(COUNTS_BIN:=.d)
endif
