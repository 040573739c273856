// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BrokerLens} from "../src/BrokerLens.sol";
import {IBrokerLens} from "../src/interfaces/IBrokerLens.sol";
import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";
import {BrokerRequestsFixture} from "./BrokerRequestsFixture.sol";
import {BombNft, BurnNft, EchoNft, PlainNft} from "./Nfts.sol";
import {BrokerRequestsV1} from "./legacy/BrokerRequestsV1.sol";
import {BrokerRequestsV2} from "./legacy/BrokerRequestsV2.sol";

/// @dev A contract of the generation without answers, as far as the lens asks it.
contract AnswerlessRequests {
    function capacityStatus() external pure returns (uint8) {
        return 1;
    }
}

/// @dev Deployed, the lens leaves as code what eth_call would answer.
contract BrokerLensTest is BrokerRequestsFixture {
    uint256[] private _none;

    function setUp() public override {
        super.setUp();
        vm.roll(1000);
    }

    function test_snapshot_tellsOfTheBlock() external {
        vm.deal(_broker, 77);
        IBrokerLens.Snapshot memory s = _snapshot(0, 0, _none);
        vm.assertEq(s.blockNumber, 1000, "blockNumber");
        vm.assertEq(s.timestamp, START, "timestamp");
        vm.assertEq(s.chainId, block.chainid, "chainId");
        vm.assertEq(s.operatorBalance, 77, "operatorBalance");
    }

    function test_snapshot_tellsOfTheContract() external {
        _submit();
        _release(_host);
        vm.startPrank(_broker);
        _requests.setRequestFee(5);
        _requests.setRequestExpirationTime(2 hours);
        vm.stopPrank();
        IBrokerLens.Snapshot memory s = _snapshot(0, 0, _none);
        vm.assertEq(s.generation, 3, "generation");
        vm.assertEq(s.requestCount, 1, "requestCount");
        vm.assertEq(s.releaseCount, 1, "releaseCount");
        vm.assertEq(s.requestFee, 5, "requestFee");
        vm.assertEq(s.expirationTime, 2 hours, "expirationTime");
        vm.assertEq(s.owner, _broker, "owner");
        vm.assertEq(s.requests.length, 0, "none wanted");
    }

    function test_snapshot_tellsOfRequests() external {
        _submit();
        _submit(_nft, hex"0402");
        IBrokerLens.Snapshot memory s = _snapshot(0, 10, _none);
        vm.assertEq(s.requests.length, 2, "all");
        IBrokerLens.RequestView memory first = s.requests[0];
        vm.assertEq(first.id, 1, "id");
        vm.assertEq(first.requester, _host, "requester");
        vm.assertEq(first.nftContract, address(_nft), "nftContract");
        vm.assertEq(first.payload, PAYLOAD, "payload");
        vm.assertEq(uint256(first.status), 3, "status");
        vm.assertEq(first.submittedAt, START, "submittedAt");
        vm.assertEq(first.digest, _requests.requestDigest(1), "digest");
        vm.assertFalse(first.mapped, "superseded");
        vm.assertEq(first.codeHash, address(_nft).codehash, "codeHash");
        vm.assertTrue(first.isErc721, "isErc721");
        vm.assertEq(first.nftOwner, _host, "nftOwner");
        vm.assertEq(uint256(s.requests[1].status), 0, "status");
        vm.assertEq(s.requests[1].digest, _requests.requestDigest(2), "digest");
        vm.assertTrue(s.requests[1].mapped, "live");
    }

    function test_snapshot_startsAfterCursor() external {
        for (uint256 i = 0; i < 5; i++) {
            _submitOther();
        }
        _assertPage(0, 2, 1, 2, "the first two");
        _assertPage(2, 2, 3, 2, "the next two");
        _assertPage(4, 2, 5, 1, "the last one");
        _assertPage(0, type(uint256).max, 1, 5, "all");
        _assertPage(5, 2, 0, 0, "no more");
        _assertPage(type(uint256).max, 2, 0, 0, "a cursor of another chain");
        _assertPage(0, 0, 0, 0, "none wanted");
    }

    function test_snapshot_fillsTheAnswerAndNoMore() external {
        bytes memory payload = _bytes(1, 368);
        for (uint256 i = 0; i < 40; i++) {
            _submit(new PlainNft(_host), payload);
        }
        // A request of usual size takes 13 words and its payload: 800 bytes of the 24,576 less 480.
        _assertPage(0, 40, 1, 30, "the first page");
        _assertPage(30, 40, 31, 10, "the rest");
        vm.assertEq(_snapshot(0, 40, _idsFrom(1, 120)).requests.length, 6, "watching takes room");
        vm.assertEq(_answer(0, 40, _none).length, 24_480, "bytes");
    }

    function test_snapshot_hasRoomForOneOfTheGreatest() external {
        _submit(_nft, _bytes(1, 4096));
        _submit(_nft, _bytes(2, 4096));
        IBrokerLens.Snapshot memory s = _snapshot(0, 2, _idsFrom(1, 120));
        vm.assertEq(s.requests.length, 1, "one");
        vm.assertEq(s.requests[0].payload, _bytes(1, 4096), "payload");
        vm.assertEq(s.watched.length, 120, "watched");
    }

    function test_snapshot_watches() external {
        _submit(); // 1, superseded by 2
        _submit();
        _respond(2);
        _submitOther(); // 3
        uint256[] memory ids = new uint256[](5);
        (ids[0], ids[1], ids[2], ids[3], ids[4]) = (3, 1, 2, 0, 4);
        IBrokerLens.WatchView[] memory w = _snapshot(0, 0, ids).watched;
        _assertWatch(w[0], 3, IBrokerRequests.RequestStatus.Pending, 3);
        _assertWatch(w[1], 1, IBrokerRequests.RequestStatus.Expired, 2);
        _assertWatch(w[2], 2, IBrokerRequests.RequestStatus.Approved, 2);
        vm.assertFalse(w[3].exists, "0 is no id");
        vm.assertFalse(w[4].exists, "not yet");
        vm.assertEq(w[4].id, 4, "id");
        vm.assertEq(w[4].digest, 0, "no digest");
        _release(_broker);
        w = _snapshot(0, 0, ids).watched;
        _assertWatch(w[1], 1, IBrokerRequests.RequestStatus.Expired, 0);
        _assertWatch(w[2], 2, IBrokerRequests.RequestStatus.Expired, 0);
    }

    function test_snapshot_ofFirstGeneration() external {
        vm.prank(_broker);
        BrokerRequestsV1 v1 = new BrokerRequestsV1();
        vm.prank(_host);
        v1.submitRequest(address(_nft), PAYLOAD);
        IBrokerLens.Snapshot memory s = _decode(address(new BrokerLens(address(v1), 0, 9, _ids(1), _broker)));
        vm.assertEq(s.generation, 1, "generation");
        vm.assertEq(s.requestCount, 1, "requestCount");
        vm.assertEq(s.releaseCount, 0, "releaseCount");
        vm.assertEq(s.owner, _broker, "owner");
        _assertLegacy(s, address(v1));
    }

    function test_snapshot_ofSecondGeneration() external {
        vm.prank(_broker);
        BrokerRequestsV2 v2 = new BrokerRequestsV2();
        vm.prank(_host);
        v2.submitRequest(address(_nft), PAYLOAD);
        IBrokerLens.Snapshot memory s = _decode(address(new BrokerLens(address(v2), 0, 9, _ids(1), _broker)));
        vm.assertEq(s.generation, 2, "generation");
        _assertLegacy(s, address(v2));
    }

    function test_snapshot_leavesOutOversizePayloads() external {
        BrokerRequestsV1 v1 = new BrokerRequestsV1();
        bytes memory payload = _bytes(1, 40_000);
        vm.prank(_host);
        v1.submitRequest(address(_nft), payload);
        IBrokerLens.Snapshot memory s = _decode(address(new BrokerLens(address(v1), 0, 9, _ids(1), _broker)));
        vm.assertEq(s.requests[0].payload, "", "left out");
        bytes32 digest = _digest(address(v1), 1, payload);
        vm.assertEq(s.requests[0].digest, digest, "but in the digest");
        vm.assertEq(s.watched[0].digest, digest, "also when watched");
    }

    function test_snapshot_survivesHostileNfts() external {
        bytes[] memory codes = new bytes[](6);
        codes[0] = address(new BurnNft()).code;
        codes[1] = address(new BombNft(16_000, false)).code;
        codes[2] = address(new BombNft(16_000, true)).code;
        codes[3] = address(new BombNft(100_000_000, true)).code;
        codes[4] = ""; // gone
        codes[5] = address(new EchoNft("", false)).code; // answers nothing: its storage stays behind
        for (uint256 i = 0; i < codes.length; i++) {
            PlainNft nft = new PlainNft(_host);
            _submit(nft, PAYLOAD);
            // They were good when they asked.
            vm.etch(address(nft), codes[i]);
            _submitOther();
        }
        IBrokerLens.Snapshot memory s = _snapshot(0, 100, _idsFrom(1, 12));
        vm.assertEq(s.requests.length, 12, "all are told");
        for (uint256 i = 0; i < 12; i++) {
            bool good = i % 2 == 1;
            IBrokerLens.RequestView memory r = s.requests[i];
            vm.assertEq(r.payload, PAYLOAD, "payload");
            vm.assertEq(r.isErc721 ? 1 : 0, good ? 1 : 0, "isErc721");
            vm.assertEq(r.nftOwner, good ? _host : address(0), "nftOwner");
            vm.assertEq(r.codeHash, good ? address(_nft).codehash : keccak256(codes[i / 2]), "codeHash");
        }
    }

    function test_snapshot_isShorterWhenGasRunsLow() external {
        for (uint256 i = 0; i < 10; i++) {
            PlainNft nft = new PlainNft(_host);
            _submit(nft, PAYLOAD);
            vm.etch(address(nft), address(new BurnNft()).code);
        }
        _submitOther();
        // Each of the hostile ones burns 200,000; 10 million must be left before the next is asked.
        uint256 told = this.snapshotWith(11_200_000).requests.length;
        vm.assertTrue(told > 0 && told < 10, "some");
        vm.assertEq(this.snapshotWith(30_000_000).requests.length, 11, "all");
        vm.assertTrue(this.snapshotWith(30_000_000).requests[10].isErc721, "the honest one is told right");
    }

    function test_snapshot_revertsWithNotEnoughGas() external {
        _submit();
        try this.snapshotWith(9_000_000) {
            vm.assertTrue(false, "must revert");
        } catch (bytes memory reason) {
            vm.assertEq(bytes32(bytes4(reason)), bytes32(IBrokerLens.NotEnoughGas.selector), "error");
        }
        vm.assertEq(this.idleSnapshotWith(2_000_000).requestCount, 1, "an idle look needs little");
    }

    function test_snapshot_reverts() external {
        vm.expectRevert(abi.encodeWithSelector(IBrokerLens.NoContract.selector, _stranger));
        new BrokerLens(_stranger, 0, 0, _none, _broker);
        address answerless = address(new AnswerlessRequests());
        vm.expectRevert(abi.encodeWithSelector(IBrokerLens.UnsupportedGeneration.selector, answerless));
        new BrokerLens(answerless, 0, 0, _none, _broker);
        uint256[] memory ids = _idsFrom(1, 121);
        vm.expectRevert(abi.encodeWithSelector(IBrokerLens.TooManyWatched.selector, 121, 120));
        new BrokerLens(address(_requests), 0, 0, ids, _broker);
        // Anything else that is no requests contract.
        vm.expectRevert();
        new BrokerLens(address(_nft), 0, 0, _none, _broker);
    }

    function test_creationCode_fitsIntoACall() external pure {
        // EIP-3860, with room for the arguments.
        vm.assertLe(type(BrokerLens).creationCode.length + 5 * 32 + 121 * 32, 49_152, "bytes");
    }

    function test_fuzz_snapshot(uint256 cursor, uint256 max, uint16[6] calldata lengths) external {
        for (uint256 i = 0; i < 6; i++) {
            _submit(new PlainNft(_host), _bytes(i, _bound(lengths[i], 1, 4096)));
        }
        cursor = _bound(cursor, 0, 7);
        IBrokerLens.RequestView[] memory page = _snapshot(cursor, max, _none).requests;
        uint256 wanted = cursor < 6 ? 6 - cursor : 0;
        vm.assertLe(page.length, wanted < max ? wanted : max, "no more than wanted");
        vm.assertEq(page.length == 0 ? 1 : 0, wanted == 0 || max == 0 ? 1 : 0, "at least one if there is one");
        for (uint256 i = 0; i < page.length; i++) {
            uint256 id = cursor + i + 1;
            vm.assertEq(page[i].id, id, "in order");
            vm.assertEq(page[i].payload, _requests.getRequest(id).encryptedPayload, "payload");
            vm.assertEq(page[i].digest, _requests.requestDigest(id), "digest");
        }
    }

    /// @dev All requests, seen with so much gas. External, to limit the gas.
    function snapshotWith(uint256 gas) external returns (IBrokerLens.Snapshot memory) {
        return this.limited{gas: gas}(100);
    }

    function idleSnapshotWith(uint256 gas) external returns (IBrokerLens.Snapshot memory) {
        return this.limited{gas: gas}(0);
    }

    function limited(uint256 max) external returns (IBrokerLens.Snapshot memory) {
        return _snapshot(0, max, _none);
    }

    function _snapshot(uint256 cursor, uint256 max, uint256[] memory watchIds)
        private
        returns (IBrokerLens.Snapshot memory)
    {
        return abi.decode(_answer(cursor, max, watchIds), (IBrokerLens.Snapshot));
    }

    function _answer(uint256 cursor, uint256 max, uint256[] memory watchIds) private returns (bytes memory) {
        return address(new BrokerLens(address(_requests), cursor, max, watchIds, _broker)).code;
    }

    function _decode(address lens) private view returns (IBrokerLens.Snapshot memory) {
        return abi.decode(lens.code, (IBrokerLens.Snapshot));
    }

    function _digest(address requests, uint256 id, bytes memory payload) private view returns (bytes32) {
        bytes32 payloadHash = keccak256(abi.encodePacked(hex"00", payload));
        return keccak256(abi.encode(block.chainid, requests, id, _host, address(_nft), payloadHash));
    }

    function _assertPage(uint256 cursor, uint256 max, uint256 first, uint256 length, string memory what) private {
        IBrokerLens.RequestView[] memory page = _snapshot(cursor, max, _none).requests;
        vm.assertEq(page.length, length, what);
        for (uint256 i = 0; i < length; i++) {
            vm.assertEq(page[i].id, first + i, what);
        }
    }

    function _assertWatch(
        IBrokerLens.WatchView memory w,
        uint256 id,
        IBrokerRequests.RequestStatus status,
        uint256 mappedId
    ) private view {
        vm.assertEq(w.id, id, "id");
        vm.assertTrue(w.exists, "exists");
        vm.assertEq(uint256(w.status), uint256(status), "status");
        vm.assertEq(w.digest, _requests.requestDigest(id), "digest");
        vm.assertEq(w.mappedId, mappedId, "mappedId");
    }

    /// @dev The one request of a contract of the field.
    function _assertLegacy(IBrokerLens.Snapshot memory s, address requests) private view {
        vm.assertEq(s.requestFee, 0, "requestFee");
        vm.assertEq(s.expirationTime, 24 hours, "expirationTime");
        vm.assertEq(s.requests[0].payload, PAYLOAD, "payload");
        vm.assertEq(s.requests[0].digest, _digest(requests, 1, PAYLOAD), "digest");
        vm.assertTrue(s.requests[0].mapped, "mapped");
        vm.assertTrue(s.requests[0].isErc721, "isErc721");
        vm.assertEq(s.watched[0].digest, s.requests[0].digest, "the same when watched");
        vm.assertEq(s.watched[0].mappedId, 1, "mapped when watched");
    }
}
