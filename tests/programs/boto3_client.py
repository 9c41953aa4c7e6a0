"""boto3 against a moto server in a thread of the same process: S3 with transfers in threads, DynamoDB, SQS."""

import os

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
url = "http://{}:{}".format(*server.get_host_and_port())
s3 = boto3.client("s3", endpoint_url=url)
s3.create_bucket(Bucket="bucket")
s3.put_object(Bucket="bucket", Key="k", Body=b"hello" * 1000)
print(len(s3.get_object(Bucket="bucket", Key="k")["Body"].read()))
print(s3.head_object(Bucket="bucket", Key="k")["LastModified"])
with open("sent.bin", "wb") as file:
    file.write(os.urandom(100_000))
s3.upload_file("sent.bin", "bucket", "file")
s3.download_file("bucket", "file", "received.bin")
with open("sent.bin", "rb") as sent, open("received.bin", "rb") as received:
    print(sent.read() == received.read(), [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]])
try:
    s3.get_object(Bucket="bucket", Key="missing")
except s3.exceptions.NoSuchKey as error:
    print(error)
keys = [{"AttributeName": "k", "KeyType": "HASH"}]
kinds = [{"AttributeName": "k", "AttributeType": "S"}]
tables = boto3.resource("dynamodb", endpoint_url=url)
table = tables.create_table(TableName="t", KeySchema=keys, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST")
with table.batch_writer() as batch:
    for k in range(10):
        batch.put_item(Item={"k": str(k), "v": k})
print(table.scan()["Count"], table.get_item(Key={"k": "3"})["Item"])
sqs = boto3.client("sqs", endpoint_url=url)
queue = sqs.create_queue(QueueName="queue")["QueueUrl"]
sqs.send_message(QueueUrl=queue, MessageBody="a message")
print(sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"])
server.stop()
